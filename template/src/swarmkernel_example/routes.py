"""The routes, and the table of them."""

from typing import get_args, get_type_hints

from swarmkernel import Call, Route
from swarmkernel_example.permissions import SEE_PATTERNS
from swarmkernel_example.settings import ExampleSettings


async def example_list_patterns(call: Call) -> dict[str, object]:  # noqa: ARG001  # a handler takes the call
    """Lists the patterns that backends of this type can paint."""
    return {"patterns": list(get_args(get_type_hints(ExampleSettings)["pattern"]))}


ROUTES = (Route("ExampleListPatterns", example_list_patterns, permission=SEE_PATTERNS),)

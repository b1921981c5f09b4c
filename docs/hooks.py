"""
Writes what hooks.md says of each hook from the hooks' specifications.

A section is a heading with the hook's arguments, what its docstring says, and an example, which stays as it is.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from swarmkernel.kernel import Kernel
from swarmkernel.settings import SettingsSource

PAGE = Path(__file__).with_suffix(".md")
SECTION = re.compile(r"^### `(?P<hook>\w+)\(.*?(?=^```python$)", re.MULTILINE | re.DOTALL)


def written(page: str) -> str:
    """The page, with every section's text as the specifications have it; KeyError for a hook that there is not."""
    hook = Kernel.boot(SettingsSource(None, {})).plugins.manager.hook
    callers = [getattr(hook, name) for name in vars(hook) if not name.startswith("_")]
    texts = {caller.name: section(caller.spec.function) for caller in callers if caller.has_spec()}
    return SECTION.sub(lambda found: texts[found["hook"]], page)


def section(spec: Any) -> str:
    """The heading and the text of one hook."""
    returned = inspect.signature(spec).return_annotation
    named = returned if isinstance(returned, str) else inspect.formatannotation(returned)
    gives = re.sub(r"\b(?:\w+\.)+(?=\w)", "", named)
    line = "" if gives == "None" else f"\n\nGives `{gives}`."
    return f"### `{spec.__name__}({', '.join(inspect.signature(spec).parameters)})`\n\n{inspect.getdoc(spec)}{line}\n\n"


if __name__ == "__main__":
    now = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(now != written(now))
    PAGE.write_text(written(now), encoding="utf-8")

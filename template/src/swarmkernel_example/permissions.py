"""What the routes ask for."""

from swarmkernel import Level, Permission

SEE_PATTERNS = Permission(
    "example_see_patterns",
    "See Patterns",
    group="Example",
    default=Level.USER,
    description="Lets users see which patterns there are.",
)

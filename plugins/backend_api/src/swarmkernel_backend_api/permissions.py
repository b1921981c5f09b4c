"""Who may do what with backends."""

from functools import partial
from typing import Final

from swarmkernel import Level, Permission, Safety

_backends = partial(Permission, group="Backends Admin")

VIEW_BACKENDS_LIST: Final = _backends(
    "view_backends_list",
    "View Backends List",
    default=Level.POWER,
    description="See the list of backends and their types.",
)
ADD_REMOVE_BACKENDS: Final = _backends(
    "add_remove_backends",
    "Add/Remove Backends",
    default=Level.ADMIN,
    safety=Safety.POWERFUL,
    description="Add backends, and delete them.",
)
EDIT_BACKENDS: Final = _backends(
    "edit_backends",
    "Edit Backends",
    default=Level.ADMIN,
    safety=Safety.POWERFUL,
    description="Change the settings of backends.",
)
RESTART_BACKENDS: Final = _backends(
    "restart_backends", "Restart Backends", default=Level.POWER, description="Restart backends."
)
TOGGLE_BACKENDS: Final = _backends(
    "toggle_backends", "Toggle Backends", default=Level.ADMIN, description="Switch backends on and off."
)
CONTROL_MEM_CLEAN: Final = Permission(
    "control_mem_clean",
    "Control Memory Cleaning",
    group="Control",
    default=Level.POWER,
    description="Free the memory that backends hold.",
)

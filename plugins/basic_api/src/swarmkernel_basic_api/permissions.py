"""
The permissions of sessions, user settings and presets.

Other packages name some of them too, so they must be the same there, description included.
"""

from swarmkernel import Level, Permission, Safety

FULL_CONTROL = Permission(
    "*",
    "Full Control",
    group="Special",
    default=Level.OWNER,
    safety=Safety.POWERFUL,
    description="Everything; satisfies every check.",
)
GENERATE_TAB = Permission(
    "fundamental_generate_tab_access",
    "Fundamental Generate Tab Access",
    group="User",
    default=Level.GUEST,
)
MODEL_ACCESS = Permission(
    "fundamental_model_access",
    "Fundamental Model Access",
    group="User",
    default=Level.GUEST,
    description="List and describe models.",
)
READ_SETTINGS = Permission(
    "read_user_settings",
    "Read User Settings",
    group="User",
    default=Level.GUEST,
    description="Read one's own settings.",
)
EDIT_SETTINGS = Permission(
    "edit_user_settings",
    "Edit User Settings",
    group="User",
    default=Level.USER,
    description="Change one's own settings and API keys.",
)
EDIT_PARAMS = Permission(
    "edit_params",
    "Edit Params",
    group="User",
    default=Level.USER,
    description="Change how parameters are shown to oneself.",
)
MANAGE_PRESETS = Permission(
    "manage_presets",
    "Manage Presets",
    group="User",
    default=Level.USER,
    description="Save and delete one's own presets.",
)
GENERATE = Permission(
    "basic_image_generation",
    "Basic Image Generation",
    group="User",
    default=Level.USER,
)
DEBUG_MESSAGE = Permission(
    "server_debug_message",
    "Server Debug Message",
    group="Admin",
    default=Level.OWNER,
    description="Write a line to the server's log.",
)
INSTALL = Permission(
    "install",
    "Install",
    group="Admin",
    default=Level.OWNER,
    safety=Safety.POWERFUL,
    description="Install this server on its first run.",
)
UTILITIES_TAB = Permission(
    "utilities_tab",
    "Utilities Tab",
    group="User",
    default=Level.USER,
    description="Show the page of utilities.",
)
SIMPLE_TAB = Permission(
    "simple_tab", "Simple Tab", group="User", default=Level.USER, description="Show the simple page."
)
USER_TAB = Permission(
    "user_tab", "User Tab", group="User", default=Level.USER, description="Show the page of user settings."
)

#: Those that no route names: front ends ask for them.
UNROUTED = (FULL_CONTROL, UTILITIES_TAB, SIMPLE_TAB, USER_TAB)

"""
Every permission of the API, so that roles can be made before the plugins that ask for it are installed.

Other packages declare those that they ask for too, so they must be the same there, description included.
"""

from swarmkernel import Level, Permission, Safety

_GUEST, _USER, _POWER, _ADMIN, _OWNER = Level
_SAFE, _UNTESTED, _RISKY, _POWERFUL = Safety

#: By group: id, name, lowest role, safety, description.
_TABLE = {
    "Special": (
        ("*", "Full Control", _OWNER, _POWERFUL, "Everything; satisfies every check."),
        (
            "local_image_folder",
            "Local Image Folder",
            _OWNER,
            _POWERFUL,
            "Open a folder of pictures on the server's own desktop.",
        ),
        (
            "automated_control",
            "Automated Control",
            _OWNER,
            _POWERFUL,
            "Control the server by remote programs that start and stop servers.",
        ),
    ),
    "Admin": (
        ("install", "Install", _OWNER, _POWERFUL, "Run the first installation."),
        (
            "server_debug_message",
            "Server Debug Message",
            _OWNER,
            _SAFE,
            "Write a line to the server's log.",
        ),
        ("configure_roles", "Configure Roles", _OWNER, _POWERFUL, "Add, change and delete roles."),
        (
            "manage_users",
            "Manage Users",
            _OWNER,
            _POWERFUL,
            "Add, change and delete users, and act as them.",
        ),
        ("interrupt_others", "Interrupt Others", _ADMIN, _POWERFUL, "Interrupt another user's work."),
        ("shutdown", "Shutdown Server", _OWNER, _SAFE, "Stop the server."),
        ("restart", "Restart Server", _ADMIN, _SAFE, "Restart and update the server."),
        ("read_server_settings", "Read Server Settings", _ADMIN, _SAFE, "Read the server's settings."),
        (
            "edit_server_settings",
            "Edit Server Settings",
            _ADMIN,
            _POWERFUL,
            "Change the server's settings; nearly as good as full control.",
        ),
        (
            "view_logs",
            "View Server Logs",
            _ADMIN,
            _SAFE,
            "Read the server's logs, the audit log among them.",
        ),
        (
            "read_server_info_panels",
            "Read Server Info Panels",
            _ADMIN,
            _SAFE,
            "See what the server uses, who is connected, and what all are doing.",
        ),
        ("admin_debug", "Admin Debug APIs", _ADMIN, _POWERFUL, "Use what is there to find faults."),
        ("manage_extensions", "Manage Extensions", _ADMIN, _POWERFUL, "Install and remove extensions."),
        ("view_others_outputs", "View Others Outputs", _ADMIN, _SAFE, "See the pictures of other users."),
        ("view_server_tab", "View Server Tab", _POWER, _SAFE, "Show the page about the server."),
    ),
    "Backends Admin": (
        (
            "view_backends_list",
            "View Backends List",
            _POWER,
            _SAFE,
            "See the list of backends and their types.",
        ),
        ("add_remove_backends", "Add/Remove Backends", _ADMIN, _POWERFUL, "Add backends, and delete them."),
        ("edit_backends", "Edit Backends", _ADMIN, _POWERFUL, "Change the settings of backends."),
        ("restart_backends", "Restart Backends", _POWER, _SAFE, "Restart backends."),
        ("toggle_backends", "Toggle Backends", _ADMIN, _SAFE, "Switch backends on and off."),
    ),
    "Control": (
        (
            "control_model_refresh",
            "Control Model Refresh",
            _POWER,
            _SAFE,
            "Have the model folders scanned again.",
        ),
        ("install_features", "Install New Features", _POWER, _RISKY, "Install features of backends."),
        ("create_tensorrt", "Create TensorRT Models", _POWER, _UNTESTED, "Compile models for TensorRT."),
        ("extra_loras", "Extract LoRAs", _POWER, _UNTESTED, "Make LoRAs out of models."),
        (
            "control_mem_clean",
            "Control Memory Cleaning",
            _POWER,
            _SAFE,
            "Free the memory that backends hold.",
        ),
        ("load_models_now", "Load Models Now", _POWER, _SAFE, "Have backends load a model at once."),
        ("edit_wildcards", "Edit Wildcards", _POWER, _SAFE, "Change and delete wildcards."),
        ("edit_model_metadata", "Edit Model Metadata", _POWER, _UNTESTED, "Change what models say of them."),
        ("download_models", "Download Models", _POWER, _UNTESTED, "Have the server fetch models."),
        ("reset_metadata", "Reset Metadata", _POWER, _SAFE, "Have what is known of files read anew."),
        ("pickle2safetensors", "Pickle2SafeTensors", _POWER, _RISKY, "Convert models to safetensors."),
        ("delete_models", "Delete Models", _POWER, _UNTESTED, "Delete and rename models."),
    ),
    "Parameters": (
        ("model_params", "Model Params", _USER, _SAFE, "Choose the model and its parts."),
        (
            "param_backend_type",
            "Backend Type Parameter",
            _POWER,
            _SAFE,
            "Restrict a generation to one type of backend.",
        ),
        (
            "param_backend_id",
            "Backend ID Parameter",
            _POWER,
            _SAFE,
            "Restrict a generation to one backend.",
        ),
        ("param_video", "Video Params", _USER, _SAFE, "Set the parameters of videos."),
        ("param_controlnet", "ControlNet Params", _USER, _SAFE, "Set the parameters of ControlNets."),
    ),
    "User": (
        ("basic_image_generation", "Basic Image Generation", _USER, _SAFE, ""),
        ("basic_text_generation", "Basic Text Generation", _USER, _SAFE, "Generate text."),
        ("view_image_history", "View Image History", _USER, _SAFE, "List one's own pictures."),
        ("user_delete_image", "User Delete Image", _USER, _SAFE, "Delete one's own pictures."),
        ("user_star_images", "User Star Images", _USER, _SAFE, "Star one's own pictures."),
        (
            "fundamental_model_access",
            "Fundamental Model Access",
            _GUEST,
            _SAFE,
            "List and describe models.",
        ),
        ("use_tokenizer", "Use Tokenizer", _GUEST, _SAFE, "Count the tokens of a prompt."),
        ("fundamental_generate_tab_access", "Fundamental Generate Tab Access", _GUEST, _SAFE, ""),
        ("read_user_settings", "Read User Settings", _GUEST, _SAFE, "Read one's own settings."),
        (
            "edit_user_settings",
            "Edit User Settings",
            _USER,
            _SAFE,
            "Change one's own settings and API keys.",
        ),
        ("edit_params", "Edit Params", _USER, _SAFE, "Change how parameters are shown to oneself."),
        ("manage_presets", "Manage Presets", _USER, _SAFE, "Save and delete one's own presets."),
        ("utilities_tab", "Utilities Tab", _USER, _SAFE, "Show the page of utilities."),
        ("simple_tab", "Simple Tab", _USER, _SAFE, "Show the simple page."),
        ("user_tab", "User Tab", _USER, _SAFE, "Show the page of user settings."),
        ("fundamental", "Fundamental", _GUEST, _SAFE, "Log out."),
        ("gridgen_generate_grids", "[Grid Generator] Generate Grids", _USER, _UNTESTED, "Make grids."),
        ("gridgen_read_grids", "[Grid Generator] Read Grids", _USER, _UNTESTED, "Read saved grids."),
        ("gridgen_save_grids", "[Grid Generator] Save Grids", _USER, _UNTESTED, "Save grids."),
        (
            "imagebatcher_use_image_batcher",
            "[Image Batch Tool] Use Image Batcher",
            _ADMIN,
            _UNTESTED,
            "Generate from a folder of pictures.",
        ),
    ),
    "ComfyUI": (
        (
            "comfy_direct_calls",
            "ComfyUI Direct Calls",
            _POWER,
            _UNTESTED,
            "Call ComfyUI through the server.",
        ),
        (
            "comfy_backend_generate",
            "ComfyUI Backend Generate",
            _POWER,
            _UNTESTED,
            "Generate with ComfyUI directly.",
        ),
        (
            "comfy_dynamic_custom_workflows",
            "ComfyUI Dynamic Custom Workflows",
            _POWER,
            _UNTESTED,
            "Send workflows of one's own with a request.",
        ),
        (
            "comfy_stored_custom_workflows",
            "ComfyUI Stored Custom Workflows",
            _POWER,
            _UNTESTED,
            "Generate with a workflow that is kept.",
        ),
        ("comfy_read_workflows", "ComfyUI Read Workflows", _POWER, _UNTESTED, "Read kept workflows."),
        ("comfy_edit_workflows", "ComfyUI Edit Workflows", _POWER, _UNTESTED, "Change kept workflows."),
    ),
}

PERMISSIONS = tuple(
    Permission(*names, group=group, default=default, safety=safety, description=description)
    for group, rows in _TABLE.items()
    for *names, default, safety, description in rows
)
_BY_ID = {permission.id: permission for permission in PERMISSIONS}

FUNDAMENTAL = _BY_ID["fundamental"]
READ_SETTINGS = _BY_ID["read_user_settings"]
EDIT_SETTINGS = _BY_ID["edit_user_settings"]
MANAGE_USERS = _BY_ID["manage_users"]

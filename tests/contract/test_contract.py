"""The route table equals the contract files: names, transports, parameters, types, defaults, permissions, groups."""

import json
from pathlib import Path

import pytest

from swarmkernel import PUBLIC, Level, Permission
from swarmkernel.wire import Body

HERE = Path(__file__).parent
FILES = ("swarm-basic", "swarm-backend", "stableswarm-basic")
TYPES = {str: "String", int: "Int32", bool: "Boolean", Body: "JObject"}
ENTRIES = [
    (name, entry) for name in FILES for entry in json.loads((HERE / f"{name}.json").read_text())["routes"]
]
#: Parameters of the older dialect that are accepted and ignored, whatever they hold.
IGNORED = {"do_debug", "context", "stability_api_key"}
#: Optional here though required there: the older dialect does not send it.
RELAXED = {("SetAPIKey", "keyType"), ("GetAPIKeyStatus", "keyType")}

#: Routes of the specification that the files do not have: the permission (None: no session needed), and whether a call
#: counts as use of the session.
PERMISSIONS = {
    "RegisterBasic": (None, False),
    "ListMyAuthTokens": ("read_user_settings", False),
    "RevokeMyAuthToken": ("edit_user_settings", True),
    "CreateAuthToken": ("edit_user_settings", True),
    "AdminListUsers": ("manage_users", False),
    "AdminGetUserInfo": ("manage_users", False),
    "AdminAddUser": ("manage_users", True),
    "AdminSetUserPassword": ("manage_users", True),
    "AdminSetUserOAuthEmail": ("manage_users", True),
    "AdminChangeUserSettings": ("manage_users", True),
    "AdminDeleteUser": ("manage_users", True),
    "AdminInterruptUser": ("interrupt_others", True),
    "AdminListRoles": ("configure_roles", False),
    "AdminListPermissions": ("configure_roles", False),
    "AdminAddRole": ("configure_roles", True),
    "AdminEditRole": ("configure_roles", True),
    "AdminDeleteRole": ("configure_roles", True),
}
ROLE = {
    "name": "String",
    "description": "String",
    "max_outpath_depth": "Int32",
    "max_t2i_simultaneous": "Int32",
}
ROLE |= {"allow_unsafe_outpaths": "Boolean"}
PARAMETERS = {
    "RegisterBasic": {"username": "String", "password": "String"},
    "RevokeMyAuthToken": {"tokenId": "String"},
    "CreateAuthToken": {"reason": "String"},
    "AdminAddUser": {"name": "String", "password": "String", "role": "String"},
    "AdminSetUserPassword": {"name": "String", "password": "String"},
    "AdminSetUserOAuthEmail": {"name": "String", "email": "String"},
    "AdminChangeUserSettings": {"name": "String"},
    "AdminDeleteUser": {"name": "String"},
    "AdminGetUserInfo": {"name": "String"},
    "AdminInterruptUser": {"name": "String"},
    "AdminAddRole": {"name": "String"},
    "AdminEditRole": ROLE | dict.fromkeys(("model_whitelist", "model_blacklist", "permissions"), "String"),
    "AdminDeleteRole": {"name": "String"},
}
#: id, display name, default level, safety
LEVELS = """
* | Full Control | OWNER | POWERFUL
local_image_folder | Local Image Folder | OWNER | POWERFUL
install | Install | OWNER | POWERFUL
server_debug_message | Server Debug Message | OWNER | SAFE
automated_control | Automated Control | OWNER | POWERFUL
configure_roles | Configure Roles | OWNER | POWERFUL
manage_users | Manage Users | OWNER | POWERFUL
interrupt_others | Interrupt Others | ADMIN | POWERFUL
shutdown | Shutdown Server | OWNER | SAFE
restart | Restart Server | ADMIN | SAFE
read_server_settings | Read Server Settings | ADMIN | SAFE
edit_server_settings | Edit Server Settings | ADMIN | POWERFUL
view_logs | View Server Logs | ADMIN | SAFE
read_server_info_panels | Read Server Info Panels | ADMIN | SAFE
admin_debug | Admin Debug APIs | ADMIN | POWERFUL
manage_extensions | Manage Extensions | ADMIN | POWERFUL
view_others_outputs | View Others Outputs | ADMIN | SAFE
view_server_tab | View Server Tab | POWER | SAFE
view_backends_list | View Backends List | POWER | SAFE
add_remove_backends | Add/Remove Backends | ADMIN | POWERFUL
edit_backends | Edit Backends | ADMIN | POWERFUL
restart_backends | Restart Backends | POWER | SAFE
toggle_backends | Toggle Backends | ADMIN | SAFE
control_model_refresh | Control Model Refresh | POWER | SAFE
install_features | Install New Features | POWER | RISKY
create_tensorrt | Create TensorRT Models | POWER | UNTESTED
extra_loras | Extract LoRAs | POWER | UNTESTED
control_mem_clean | Control Memory Cleaning | POWER | SAFE
load_models_now | Load Models Now | POWER | SAFE
edit_wildcards | Edit Wildcards | POWER | SAFE
edit_model_metadata | Edit Model Metadata | POWER | UNTESTED
download_models | Download Models | POWER | UNTESTED
reset_metadata | Reset Metadata | POWER | SAFE
pickle2safetensors | Pickle2SafeTensors | POWER | RISKY
delete_models | Delete Models | POWER | UNTESTED
model_params | Model Params | USER | SAFE
param_backend_type | Backend Type Parameter | POWER | SAFE
param_backend_id | Backend ID Parameter | POWER | SAFE
param_video | Video Params | USER | SAFE
param_controlnet | ControlNet Params | USER | SAFE
basic_image_generation | Basic Image Generation | USER | SAFE
basic_text_generation | Basic Text Generation | USER | SAFE
view_image_history | View Image History | USER | SAFE
user_delete_image | User Delete Image | USER | SAFE
user_star_images | User Star Images | USER | SAFE
fundamental_model_access | Fundamental Model Access | GUEST | SAFE
use_tokenizer | Use Tokenizer | GUEST | SAFE
fundamental_generate_tab_access | Fundamental Generate Tab Access | GUEST | SAFE
read_user_settings | Read User Settings | GUEST | SAFE
edit_user_settings | Edit User Settings | USER | SAFE
edit_params | Edit Params | USER | SAFE
manage_presets | Manage Presets | USER | SAFE
utilities_tab | Utilities Tab | USER | SAFE
simple_tab | Simple Tab | USER | SAFE
user_tab | User Tab | USER | SAFE
fundamental | Fundamental | GUEST | SAFE
"""


@pytest.fixture(name="kernel", scope="module")
def _kernel():
    from swarmkernel.kernel import Kernel
    from swarmkernel.settings import SettingsSource

    return Kernel.boot(SettingsSource(None, {}, {"plugins": {"strict": True}}))


@pytest.mark.parametrize(("document", "entry"), ENTRIES, ids=[f"{d}-{e['name']}" for d, e in ENTRIES])
def test_route(kernel, document, entry):
    """The route has the contract's transport, permission and parameters."""
    bound = kernel.find(entry["name"])

    assert entry["name"] == bound.route.name
    assert entry["transport"] == ("websocket" if bound.route.streams else "http")
    if "permission" in entry:
        _check_permission(entry["permission"], bound.route.permission)
    found = {p.name: p for p in bound.parameters}
    for wanted in entry["parameters"]:
        if wanted["name"] not in IGNORED:
            _check_parameter(entry["name"], wanted, found.get(wanted["name"]))


def _check_permission(wanted, found):
    if wanted is None:
        assert found is PUBLIC
    else:
        assert wanted == {"id": found.id, "name": found.name, "group": found.group}


def _check_parameter(route, wanted, found):
    assert found is not None, wanted
    assert wanted["type"] == TYPES[found.kind]
    if (route, wanted["name"]) in RELAXED:
        return
    assert wanted["required"] == found.required
    if not wanted["required"]:
        assert wanted["default"] == found.default


@pytest.mark.parametrize("document", FILES)
def test_extra_parameters_are_optional(kernel, document):
    """Whatever a route takes beyond its contract may be left out."""
    for name, entry in ENTRIES:
        if name == document == "swarm-basic":
            known = {p["name"] for p in entry["parameters"]}
            extra = [
                p for p in kernel.find(entry["name"]).parameters if p.name not in known and p.kind is not Body
            ]
            assert [] == [p.name for p in extra if p.required]


def test_older_names(kernel):
    """The two names that the older dialect had for the API key routes exist."""
    for name in ("SetStabilityAPIKey", "GetStabilityAPIKeyStatus"):
        assert ("basic_api", False) == (kernel.find(name).plugin.name, kernel.find(name).route.streams)


def test_ignored_parameters(kernel):
    """What only the older dialect sends is no parameter, so that no value of it is ever refused."""
    found = {p.name for bound in kernel.routes for p in bound.parameters}

    assert set() == IGNORED & found


@pytest.mark.parametrize("name", PERMISSIONS)
def test_permissions_beyond_the_files(kernel, name):
    """Routes that the contract files do not have need the permission, and count as use, as the specification says."""
    wanted, touches = PERMISSIONS[name]
    route = kernel.find(name).route

    assert name == route.name
    assert (wanted or PUBLIC) == (route.permission.id if wanted else route.permission)
    assert touches == route.touches_session


def test_admin_routes_are_complete(kernel):
    """Each route of the specification about users and roles is there, and no other that calls itself one."""
    wanted = {name for name in PERMISSIONS if name.startswith("Admin")}

    assert wanted == {b.route.name for b in kernel.routes if b.route.name.startswith("Admin")}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_beyond_the_files(kernel, name, parameters):
    """They take the specification's parameters, all required; what they take beyond is optional."""
    found = {p.name: p for p in kernel.find(name).parameters if p.kind is not Body}

    assert parameters == {n: TYPES[p.kind] for n, p in found.items() if p.required}


def test_only_these_need_no_session(kernel):
    """No session is needed by the routes of the specification that make one or an account, and by no other."""
    public = {b.route.name for b in kernel.routes if b.route.permission is PUBLIC}

    assert {"Login", "GetNewSession", "RegisterBasic"} == public


def test_default_levels(kernel):
    """Each permission has the specification's name, default level and safety."""
    found = kernel.permissions.by_id
    wanted = {row.split(" | ")[0]: row.split(" | ") for row in LEVELS.strip().splitlines()}

    assert set() == set(wanted) - set(found)
    shown = {i: [i, p.name, p.default.name, p.safety.name] for i, p in found.items() if i in wanted}
    assert wanted == shown


def test_permissions_of_our_own(kernel):
    """A permission that the specification does not know is never given to guests by itself."""
    known = {row.split(" | ")[0] for row in LEVELS.strip().splitlines()}
    ours = [p for i, p in kernel.permissions.by_id.items() if i not in known]

    assert all(isinstance(p, Permission) for p in ours)
    assert [] == [p.id for p in ours if p.default is Level.GUEST]


def test_every_route_is_documented(kernel):
    """Every handler has a docstring, since it is published."""
    assert [] == [b.route.name for b in kernel.routes if not b.route.handler.__doc__]

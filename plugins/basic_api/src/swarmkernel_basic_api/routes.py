"""The routes about sessions, users, presets and status."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import attrs

from swarmkernel import (
    PUBLIC,
    SERVER_ID,
    VERSION,
    Body,
    Call,
    Permissions,
    Plugins,
    Route,
    RouteError,
    Sessions,
)
from swarmkernel_basic_api.acting import actor_of
from swarmkernel_basic_api.api_keys import KeyTypeError
from swarmkernel_basic_api.install import Choices, Installer
from swarmkernel_basic_api.permissions import (
    DEBUG_MESSAGE,
    EDIT_PARAMS,
    EDIT_SETTINGS,
    GENERATE,
    GENERATE_TAB,
    INSTALL,
    MANAGE_PRESETS,
    MODEL_ACCESS,
    READ_SETTINGS,
)
from swarmkernel_basic_api.preset_routes import (
    add_new_preset,
    delete_preset,
    duplicate_preset,
    export_user_presets,
)
from swarmkernel_basic_api.themes import THEMES
from swarmkernel_basic_api.users import BadSettingError, Users
from swarmkernel_basic_api.values import Name, ShapeError, lists_of_texts, preset_links

log = logging.getLogger(__name__)

MAX_MESSAGE = 2000
NO_EXTRAS = "No shortcut is made, and graphics cards of every make are used as far as the installed libraries know them."
NO_STATUS = {
    "status": {"waiting_gens": 0, "loading_models": 0, "waiting_backends": 0, "live_gens": 0},
    "backend_status": {
        "status": "empty",
        "class": "error",
        "message": "No backends exist. Add one to generate.",
        "any_loading": False,
    },
    "supported_features": [],
}


async def get_new_session(call: Call, impersonateUser: str | None = None) -> Mapping[str, object]:  # noqa: N803
    """
    Open a session.

    Answers `session_id` (to send with every other call), `user_id`, `permissions` (ids; `*` is all of them),
    `version`, `server_id` (differs between processes), `output_append_user` (whether output URLs name the user),
    `count_running` (running or loading backends). A `session_id` in the body is ignored.
    *impersonateUser* opens the session for another user, which needs `manage_users`.
    """
    actor = await actor_of(call, impersonateUser)
    session = await call.get(Sessions).open(actor.user_id, call.address, actor.token_id, actor.impersonator)
    answer: dict[str, object] = {
        "session_id": session.id,
        "user_id": session.user_id,
        "output_append_user": True,
        "version": VERSION,
        "server_id": SERVER_ID,
        "permissions": call.get(Permissions).held_by(session),
        "count_running": 0,
    }
    for more in call.get(Plugins).gather("basic_new_session", services=call.services, session=session):
        answer |= more
    return answer


async def get_current_status(call: Call) -> Mapping[str, object]:
    """
    Tell what goes on.

    `status` counts the calling session's work: `waiting_gens`, `loading_models`, `waiting_backends`, `live_gens`.
    `backend_status` is the server's: `status`, `class`, `message`, `any_loading`.
    `supported_features` are ids of what the running backends can do.
    """
    parts = call.get(Plugins).gather("basic_status", services=call.services, session=call.session)
    answer: dict[str, object] = dict(NO_STATUS)
    for part in parts:
        answer |= part
    features = {feature for part in parts for feature in part.get("supported_features", ())}
    return answer | {"supported_features": sorted(features)}


async def interrupt_all(call: Call, other_sessions: bool = False) -> Mapping[str, bool]:
    """Interrupt all work of this session, with *other_sessions* that of all sessions of the same user."""
    call.get(Plugins).gather(
        "basic_interrupt", services=call.services, session=call.session, other_sessions=other_sessions
    )
    return {"success": True}


async def server_debug_message(call: Call, message: str) -> Mapping[str, bool]:
    """Write *message* to the server's log, on one line and cut to 2000 characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in message[:MAX_MESSAGE])
    log.info("message from user %s: %s", call.session.user_id, text)
    return {"success": True}


async def get_my_user_data(call: Call) -> Mapping[str, object]:
    """
    Tell the user's own data.

    `user_name`, `language`, `permissions` (ids), `presets`, `starred_models` (lists by kind of model),
    `model_preset_links` (preset titles by kind and model), `autocompletions` (a text per word: what to insert, clean
    word, tag number, count and aliases, one per line; null if the user has chosen no list).
    """
    users, user_id = call.get(Users), call.session.user_id
    settings = await users.settings(user_id)
    return {
        "user_name": user_id,
        "presets": [p.on_wire(p.picture_url) for p in await users.presets.of_user(user_id)],
        "language": settings["language"],
        "permissions": call.get(Permissions).held_by(call.session),
        "starred_models": await users.values.get(user_id, "starred_models") or {},
        "model_preset_links": await users.values.get(user_id, "preset_links") or {},
        "autocompletions": await users.completions(user_id),
    }


async def get_user_settings(call: Call) -> Mapping[str, object]:
    """
    Describe the user's `settings` with their values, and the `themes` there are.

    A setting has `type` (`group`, `text`, `integer`, `decimal`, `boolean`, `dropdown` or `list`), `name`, `value`,
    `description`, `values` and `value_names` of dropdowns, `is_secret` and `default_value`. A group's `value` is a map
    of settings.
    """
    return {
        "themes": {theme.id: theme.on_wire() for theme in THEMES},
        "settings": await call.get(Users).describe_settings(call.session.user_id, {}),
    }


async def change_user_settings(call: Call, rawData: Body) -> Mapping[str, object]:  # noqa: N803
    """
    Change settings of the user: all that `settings` names, or none.

    `settings` maps ids (such as `fileformat.imageformat`) to values. Unknown and restricted ids are left out and
    listed in `skipped`; a value that does not fit is an error that names the id.
    """
    wanted = rawData.get("settings")
    if not isinstance(wanted, dict):
        raise RouteError("The body needs settings: an object of setting ids and their values.")
    try:
        skipped = await call.get(Users).change_settings(call.session.user_id, wanted)
    except BadSettingError as exc:
        raise RouteError(str(exc), error_id="invalid_setting") from None
    return {"success": True, "skipped": skipped}


async def get_language(call: Call, language: str) -> Mapping[str, object]:
    """Give a `language` by its code: `code`, `name`, `local_name`, and `keys` (English texts and translations)."""
    languages = call.get(Users).languages
    found = languages.find(language)
    if found is None:
        codes = ", ".join(each.code for each in languages)
        raise RouteError(f"Unknown language {language[:20]!r}; there are {codes}.")
    return {"language": attrs.asdict(found)}


async def set_param_edits(call: Call, rawData: Body) -> Mapping[str, bool]:  # noqa: N803
    """Keep `edits`: how the user wants parameters shown. `ListT2IParams` gives it back."""
    edits = rawData.get("edits")
    if not isinstance(edits, dict):
        raise RouteError("The body needs edits: an object.")
    return await _keep(call, "param_edits", edits, dict)


async def set_starred_models(call: Call, raw: Body) -> Mapping[str, bool]:
    """Replace the user's starred models by the body: lists of names by kind of model."""
    return await _keep(call, "starred_models", raw, lists_of_texts)


async def set_preset_links(call: Call, raw: Body) -> Mapping[str, bool]:
    """Replace the user's links by the body: lists of preset titles by kind of model and model."""
    return await _keep(call, "preset_links", raw, preset_links)


async def _keep(
    call: Call, name: Name, value: Mapping[str, Any], check: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Mapping[str, bool]:
    try:
        await call.get(Users).values.put(call.session.user_id, name, check(value))
    except ShapeError as exc:
        raise RouteError(str(exc), error_id="invalid_parameter") from None
    return {"success": True}


async def set_api_key(call: Call, key: str, keyType: str = "stability_api") -> Mapping[str, bool]:  # noqa: N803
    """
    Keep the user's *key* for another service; `none` removes it.

    *keyType* is `stability_api`, `civitai_api` or `huggingface_api`.
    """
    try:
        await call.get(Users).keys.set(call.session.user_id, keyType, key)
    except KeyTypeError as exc:
        raise RouteError(str(exc)) from None
    return {"success": True}


async def get_api_key_status(call: Call, keyType: str = "stability_api") -> Mapping[str, str]:  # noqa: N803
    """Tell the `status` of a key: `not set`, or `last updated` and the server's local time."""
    return {"status": await call.get(Users).keys.status(call.session.user_id, keyType)}


async def install_confirm(
    call: Call,
    theme: str,
    installed_for: str,
    backend: str,
    models: str,
    install_amd: bool,
    language: str,
    make_shortcut: bool = False,
) -> AsyncIterator[Mapping[str, Any]]:
    """
    Install this server on its first run.

    *theme* and *language* become every user's, until they choose their own. *installed_for* is `just_self`, or
    `just_self_lan` for the whole network, which turns accounts on; both count from the next start. *backend* is
    `comfyui` for this server's usual engine, the id of another backend type, or `none`. *models* are ids with commas
    between, such as `starter` or `sdxl1`, or `none`. *install_amd* and *make_shortcut* change nothing.

    Tells `info` (a text), and `progress`, `total` and `per_second` (bytes) with `steps` and `total_steps`; at the end
    `success`, or `error`. Nothing is done before all choices are checked. A model that cannot be fetched is told in
    an `info` and does not fail the installation. A server that has a settings file is installed already.
    """
    try:
        choices = await Choices.read(call.get(Users), theme, language, installed_for, backend, models)
        if make_shortcut or install_amd:
            yield {"info": NO_EXTRAS}
        async with aclosing(call.get(Installer).run(choices, call.session.user_id)) as frames:
            async for frame in frames:
                yield frame
    except RouteError as exc:
        yield {"info": str(exc)}  # what the clients show; the error itself ends the socket
        raise


ROUTES = (
    Route("GetNewSession", get_new_session, permission=PUBLIC),
    Route("GetCurrentStatus", get_current_status, permission=GENERATE_TAB),
    Route("InterruptAll", interrupt_all, permission=GENERATE, touches_session=True),
    Route("ServerDebugMessage", server_debug_message, permission=DEBUG_MESSAGE),
    Route("GetMyUserData", get_my_user_data, permission=GENERATE_TAB),
    Route("GetUserSettings", get_user_settings, permission=READ_SETTINGS),
    Route(
        "ChangeUserSettings", change_user_settings, permission=EDIT_SETTINGS, touches_session=True, audit=()
    ),
    Route("GetLanguage", get_language, permission=GENERATE_TAB),
    Route("AddNewPreset", add_new_preset, permission=MANAGE_PRESETS, touches_session=True, large=True),
    Route("DuplicatePreset", duplicate_preset, permission=MANAGE_PRESETS, touches_session=True),
    Route("DeletePreset", delete_preset, permission=MANAGE_PRESETS, touches_session=True),
    Route("ExportUserPresets", export_user_presets, permission=GENERATE_TAB),
    Route("SetParamEdits", set_param_edits, permission=EDIT_PARAMS, touches_session=True),
    Route("SetStarredModels", set_starred_models, permission=MODEL_ACCESS, touches_session=True),
    Route("SetPresetLinks", set_preset_links, permission=MODEL_ACCESS, touches_session=True),
    Route(
        "SetAPIKey",
        set_api_key,
        permission=EDIT_SETTINGS,
        touches_session=True,
        aliases=("SetStabilityAPIKey",),
        audit=("keyType",),
    ),
    Route(
        "InstallConfirmWS",
        install_confirm,
        permission=INSTALL,
        touches_session=True,
        audit=("installed_for", "backend", "models", "language", "theme"),
    ),
    Route(
        "GetAPIKeyStatus", get_api_key_status, permission=READ_SETTINGS, aliases=("GetStabilityAPIKeyStatus",)
    ),
)

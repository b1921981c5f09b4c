"""The handlers of the routes about presets."""

from collections.abc import Mapping

import attrs

from swarmkernel import Body, Call
from swarmkernel_basic_api.pictures import PictureError, Pictures, data_uri
from swarmkernel_basic_api.presets import Draft, Preset, PresetError, Presets
from swarmkernel_basic_api.users import Users


async def add_new_preset(
    call: Call,
    title: str,
    description: str,
    raw: Body,
    preview_image: str | None = None,
    is_edit: bool = False,
    editing: str | None = None,
    preview_image_metadata: str | None = None,
    is_starred: bool = False,
) -> Mapping[str, object]:
    """
    Save a preset, or with *is_edit* replace the one titled *editing*.

    `param_map` in the body maps parameter ids to values. *preview_image* is a JPEG data URI; without one, an edited
    preset keeps its picture. *preview_image_metadata* is text to store in the picture. Failures of the preset itself
    are told as `preset_fail`.
    """
    presets, user_id = call.get(Users).presets, call.session.user_id
    try:
        draft = Draft.read(title, description, raw.get("param_map"), is_starred)
        picture = await call.get(Pictures).read(preview_image, preview_image_metadata)
        draft = attrs.evolve(draft, picture=picture)
        if is_edit:
            await presets.edit(user_id, editing or title, draft)
        else:
            await presets.add(user_id, draft)
    except (PresetError, PictureError) as exc:
        return {"preset_fail": str(exc)}
    return {"success": True}


async def duplicate_preset(call: Call, preset: str) -> Mapping[str, object]:
    """Copy the preset titled *preset* to that title with a number in brackets."""
    try:
        await call.get(Users).presets.duplicate(call.session.user_id, preset)
    except PresetError as exc:
        return {"preset_fail": str(exc)}
    return {"success": True}


async def delete_preset(call: Call, preset: str) -> Mapping[str, bool]:
    """Delete the preset titled *preset*; `success` is false if there was none."""
    return {"success": await call.get(Users).presets.delete(call.session.user_id, preset)}


async def export_user_presets(call: Call, raw: Body) -> Mapping[str, object]:
    """Give the user's `presets` with their pictures as data URIs; only those in `titles` if that is a list."""
    presets, user_id = call.get(Users).presets, call.session.user_id
    titles = raw.get("titles")
    found = await presets.of_user(user_id)
    wanted = [p for p in found if p.title in titles] if isinstance(titles, list) else found
    return {"presets": [p.on_wire(await _picture_uri(presets, p)) for p in wanted]}


async def _picture_uri(presets: Presets, preset: Preset) -> str:
    return data_uri(await presets.picture(preset.author, preset.title) if preset.has_picture else None)

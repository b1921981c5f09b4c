"""A request while it is being read: its keys found among the parameters, their values typed and checked."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from swarmkernel import Permission
from swarmkernel_models_api import Model
from swarmkernel_t2i_api.errors import ParamError
from swarmkernel_t2i_api.params.images import GivenImage, read_image
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.resolution import read_resolution
from swarmkernel_t2i_api.params.types import Param
from swarmkernel_t2i_api.params.values import Value, as_text, read_value

log = logging.getLogger(__name__)

#: Image formats of older clients: what they are now, and the quality that they meant.
OLD_FORMATS: Final[Mapping[str, tuple[str, int]]] = {
    "JPG90": ("JPG", 90),
    "JPG75": ("JPG", 75),
    "WEBP_100": ("WEBP", 100),
    "WEBP_90": ("WEBP", 90),
    "WEBP_75": ("WEBP", 75),
}
_WRAPPING: Final = frozenset({"prompt", "negativeprompt", "unsamplerprompt", "personalnote"})
_TAILS: Final = ("<segment:", "<object:", "<region:")


@attrs.define
class Draft:
    """The values of a request, one parameter after another."""

    registry: ParamRegistry
    find: Callable[[str, str], Model | None]
    allowed: Callable[[Permission], bool]
    max_prompt: int
    values: dict[str, Value] = attrs.field(factory=dict)
    quality: int | None = None

    def apply(self, key: str, raw: object) -> None:
        """Set one parameter, or remove it if the value is the one that means nothing. Unknown keys are ignored."""
        param = self.registry.get(key)
        if param is None:
            log.debug("a request has an unknown parameter %r", key[:80])
        elif raw is not None:
            self._set(param, raw)

    def _set(self, param: Param, raw: object) -> None:
        if param.permission is not None and not self.allowed(param.permission):
            raise ParamError(f"You are not allowed to set the parameter {param.name}.", "bad_permissions")
        if param.id == "imageformat":
            raw, self.quality = OLD_FORMATS.get(as_text(raw).upper(), (raw, None))
        value = read_value(param, raw, self.find)
        if isinstance(value, str) and param.type == "text":
            value = self._cleaned(param, value)
        if value is None:
            self.values.pop(param.id, None)
        else:
            self.values[param.id] = value

    def _cleaned(self, param: Param, text: str) -> str:
        if param.id in _WRAPPING and "{value}" in text:
            text = wrap_text(text, str(self.values.get(param.id, "")))
        if param.id == "rawresolution":
            read_resolution(text)
        if len(text) > self.max_prompt:
            raise ParamError(
                f"Invalid value for parameter {param.name}: it has {len(text)} characters, at most "
                f"{self.max_prompt} are allowed.",
                "prompt_too_long",
            )
        return text

    async def read_images(self) -> None:
        """Put pictures in place of their texts, one after another in a thread: they may be large."""
        for key, value in self.values.items():
            param = self.registry.get(key)
            if param is None or param.type != "image" or not isinstance(value, str):
                continue
            try:
                self.values[key] = await asyncio.to_thread(read_image, value)
            except ValueError as error:
                raise ParamError(f"Invalid value for parameter {param.name}: {error}.") from None
        if isinstance(self.values.get("maskimage"), GivenImage) and "initimage" not in self.values:
            raise ParamError("Invalid value for parameter Mask Image: there is no Init Image for it to mask.")

    @property
    def features(self) -> frozenset[str]:
        """What a backend must support for these values."""
        params = (self.registry.get(key) for key in self.values)
        return frozenset().union(*(param.features for param in params if param is not None))


def wrap_text(text: str, older: str) -> str:
    """*text* with ``{value}`` replaced by the *older* text.

    What follows the first segment, object or region of the older text is not inserted but goes to the end.
    """
    at = min((i for i in (older.find(tag) for tag in _TAILS) if i >= 0), default=len(older))
    wrapped = text.replace("{value}", older[:at].rstrip() if older[at:] else older)
    return f"{wrapped} {older[at:]}" if older[at:] else wrapped


def read_titles(presets: object) -> list[str]:
    """The titles of presets: a list, or a text with commas."""
    if isinstance(presets, str):
        presets = presets.split(",")
    items = presets if isinstance(presets, list) else []
    return [title for title in (as_text(item).strip() for item in items) if title]


def read_extra(raw: object) -> dict[str, Any]:
    """The caller's own metadata: arrays stay, all else is text. An object, or one as JSON text."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw or "{}")
        except (ValueError, RecursionError):
            raise ParamError("Invalid value for extra_metadata: it is not JSON.") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ParamError("Invalid value for extra_metadata: it must be an object.")
    return {key: value if isinstance(value, list) else as_text(value) for key, value in raw.items()}

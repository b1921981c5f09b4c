"""From the body of a request to a checked request: typed values, presets applied, seeds drawn, limits held."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import attrs

from swarmkernel import Permission, Services, Session, UserData
from swarmkernel_models_api import COMPAT_CLASSES, Model, Models
from swarmkernel_t2i_api.errors import LimitError, ParamError, SessionEndedError
from swarmkernel_t2i_api.outputs.paths import RequestCounter
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.resolution import picture_size, read_resolution
from swarmkernel_t2i_api.params.types import Param
from swarmkernel_t2i_api.params.values import Value, as_text, read_value
from swarmkernel_t2i_api.settings import T2ISettings

log = logging.getLogger(__name__)

#: Keys of a request that are not parameters.
CONTROL_KEYS: Final = frozenset({"session_id", "presets", "extra_metadata"})
#: Image formats of older clients: what they are now, and the quality that they meant.
OLD_FORMATS: Final[Mapping[str, tuple[str, int]]] = {
    "JPG90": ("JPG", 90),
    "JPG75": ("JPG", 75),
    "WEBP_100": ("WEBP", 100),
    "WEBP_90": ("WEBP", 90),
    "WEBP_75": ("WEBP", 75),
}
MAIN: Final = "Stable-Diffusion"
#: The user setting that names the VAE for a compat class.
VAE_SETTINGS: Final[Mapping[str, str]] = {
    "stable-diffusion-v1": "vaes.defaultsdv1vae",
    "stable-diffusion-xl-v1": "vaes.defaultsdxlvae",
}
_WRAPPING: Final = frozenset({"prompt", "negativeprompt", "unsamplerprompt", "personalnote"})
_TAILS: Final = ("<segment:", "<object:", "<region:")


@attrs.frozen(eq=False)
class ImageRequest:
    """One checked request: `images` x `batch_size` pictures that differ in their seeds alone.

    `values` are the parameters as they apply, typed, by id; a model is a `Model`. `features` are what a backend
    must support. `extra` goes into the metadata beside the parameters. `settings` are the user's.
    `created` is the local time at which it came, `number` counts the requests of that minute.
    `model_named` is False if the server chose the model. `quality` is what an old name of a format stands for.
    """

    id: str
    user_id: str
    session_id: str
    values: Mapping[str, Value]
    width: int
    height: int
    features: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = attrs.Factory(dict)
    settings: Mapping[str, Any] = attrs.Factory(dict)
    model: Model | None = None
    model_named: bool = True
    vae: Model | None = None
    quality: int | None = None
    created: datetime = attrs.Factory(lambda: datetime.now().astimezone())
    number: int = 1

    @property
    def images(self) -> int:
        """How many batches."""
        return int(self.amount("images", 1))

    @property
    def batch_size(self) -> int:
        """How many pictures in each."""
        return int(self.amount("batchsize", 1))

    @property
    def count(self) -> int:
        """How many pictures."""
        return self.images * self.batch_size

    def amount(self, key: str, default: float) -> float:
        """A numeric parameter, or *default* if it is not set."""
        value = self.values.get(key, default)
        return value if isinstance(value, int | float) else default

    def text(self, key: str, default: str = "") -> str:
        """A parameter of text, or *default* if it is not set."""
        value = self.values.get(key)
        return value if isinstance(value, str) else default

    def flag(self, key: str) -> bool:
        """Whether a boolean parameter is set."""
        return self.values.get(key) is True

    @property
    def cost(self) -> int:
        """The work in one picture: pixels x steps."""
        return self.width * self.height * max(1, int(self.amount("steps", 20)))

    @property
    def transient(self) -> bool:
        """Whether the pictures are sent as data and not kept."""
        return self.flag("donotsave") or self.settings.get("savefiles") is False


@attrs.define
class _Draft:
    """A request while it is being read."""

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

    @property
    def features(self) -> frozenset[str]:
        params = (self.registry.get(key) for key in self.values)
        return frozenset().union(*(param.features for param in params if param is not None))


@attrs.define
class RequestReader:
    """Reads requests, and numbers them."""

    registry: ParamRegistry
    models: Models
    services: Services
    limits: T2ISettings
    _per_user: Counter[str] = attrs.field(factory=Counter, init=False)
    _per_minute: RequestCounter = attrs.field(factory=RequestCounter, init=False)

    async def read(
        self, body: Mapping[str, Any], session: Session, allowed: Callable[[Permission], bool]
    ) -> ImageRequest:
        """The checked request. Raises ParamError, LimitError or SessionEndedError with a text for the user."""
        draft = _Draft(self.registry, partial(self._find, session), allowed, self.limits.max_prompt)
        extra = _extra_metadata(body.get("extra_metadata"))
        for key, raw in body.items():
            if key not in CONTROL_KEYS:
                draft.apply(key, raw)
        titles = _titles(body.get("presets"))
        users: UserData | None = self.services.find(UserData)  # type: ignore[type-abstract]
        if titles:
            extra["presets_used"] = titles
            await _apply_presets(draft, users, session.user_id, titles)
        settings = await users.settings(session.user_id) if users else {}
        request = self._finish(draft, session, settings, extra)
        check_limits(request, self.limits)
        # It may have ended while this waited, and then the interrupt that goes with it came too early.
        if session.ended.is_set():
            raise SessionEndedError("The session has ended.")
        return request

    def _find(self, session: Session, text: str, kind: str) -> Model | None:
        return self.models.find(text, kind, session)

    def _finish(
        self, draft: _Draft, session: Session, settings: Mapping[str, Any], extra: dict[str, Any]
    ) -> ImageRequest:
        values, features, created = draft.values, draft.features, datetime.now().astimezone()
        named = values.get("model")
        model = named if isinstance(named, Model) else self._default(session)
        if model is not None:
            values["model"] = model
        draw_seeds(values)
        size = picture_size(values, *_standard_size(model))
        values.pop("rawresolution", None)
        values["width"], values["height"] = size
        self._per_user[session.user_id] += 1
        return ImageRequest(
            str(1000 + self._per_user[session.user_id]),
            session.user_id,
            session.id,
            values,
            *size,
            features=features,
            extra=extra,
            settings=settings,
            model=model,
            model_named=isinstance(named, Model),
            vae=self._vae(values, model, settings, session),
            quality=draft.quality,
            created=created,
            number=self._per_minute.next(created),
        )

    def _default(self, session: Session) -> Model | None:
        """The model to use where none is named.

        None leaves it to the backend, which would take one that it holds; so not for who may not know of some.
        """
        model = self.models.default(MAIN, session)
        if model is None and len(self.models.list(MAIN, session)) < len(self.models.list(MAIN)):
            raise ParamError("There is no Stable-Diffusion model to generate with.", "model_not_found")
        return model

    def _vae(
        self,
        values: Mapping[str, Value],
        model: Model | None,
        settings: Mapping[str, Any],
        session: Session,
    ) -> Model | None:
        vae = values.get("vae")
        if isinstance(vae, Model):
            return vae
        if (vae != "Automatic" and values.get("automaticvae") is not True) or model is None:
            return None
        name = settings.get(VAE_SETTINGS.get(model.compat_class or "", ""), "None")
        return None if name in ("", "None") else self.models.find(str(name), "VAE", session)


def draw_seeds(values: dict[str, Value]) -> None:
    """Put random numbers where seeds are wanted but not given."""
    if values.get("seed", -1) == -1:
        values["seed"] = random.randrange(2**31)
    if values.get("variationseed", -1) == -1 and (
        "variationseed" in values or "variationseedstrength" in values
    ):
        values["variationseed"] = random.randrange(2**31)


def check_limits(request: ImageRequest, limits: T2ISettings) -> None:
    """Raise LimitError if a request asks for more than an operator allows."""
    steps = int(request.amount("steps", 20))
    total = request.cost * request.count
    for what, asked, most in (
        ("pictures (images x batch size)", request.count, limits.max_images),
        ("pixels of width", request.width, limits.max_side),
        ("pixels of height", request.height, limits.max_side),
        ("steps", steps, limits.max_steps),
        ("pixels x steps x pictures", total, limits.max_cost),
    ):
        if asked > most:
            raise LimitError(f"The request asks for {asked} {what}; this server allows at most {most}.")
    if steps == 0:
        raise ParamError("Invalid value for parameter Steps: 0 steps make no picture from noise alone.")


def wrap_text(text: str, older: str) -> str:
    """*text* with ``{value}`` replaced by the *older* text.

    What follows the first segment, object or region of the older text is not inserted but goes to the end.
    """
    at = min((i for i in (older.find(tag) for tag in _TAILS) if i >= 0), default=len(older))
    wrapped = text.replace("{value}", older[:at].rstrip() if older[at:] else older)
    return f"{wrapped} {older[at:]}" if older[at:] else wrapped


def _standard_size(model: Model | None) -> tuple[tuple[int, int], int]:
    if model is None:
        return (512, 512), 16
    compat = COMPAT_CLASSES.get(model.compat_class or "")
    size = (model.standard_width or 512, model.standard_height or 512)
    return size, compat.resolution_precision if compat else 16


async def _apply_presets(draft: _Draft, users: UserData | None, user_id: str, titles: list[str]) -> None:
    for title in titles:
        preset = await users.preset(user_id, title) if users else None
        if preset is None:
            log.info("user %s has no preset %r", user_id, title[:80])
        for key, raw in (preset or {}).items():
            draft.apply(key, raw)


def _titles(presets: object) -> list[str]:
    if isinstance(presets, str):
        presets = presets.split(",")
    items = presets if isinstance(presets, list) else []
    return [title for title in (as_text(item).strip() for item in items) if title]


def _extra_metadata(raw: object) -> dict[str, Any]:
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

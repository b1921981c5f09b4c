"""From the body of a request to a checked request: presets applied, seeds drawn, limits held."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import attrs

from swarmkernel import Permission, Services, Session, UserData
from swarmkernel_models_api import COMPAT_CLASSES, Model, Models
from swarmkernel_t2i_api.errors import LimitError, ParamError, SessionEndedError
from swarmkernel_t2i_api.outputs.paths import RequestCounter
from swarmkernel_t2i_api.params.draft import Draft, read_extra, read_titles
from swarmkernel_t2i_api.params.images import GivenImage
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.resolution import picture_size
from swarmkernel_t2i_api.params.values import Value
from swarmkernel_t2i_api.settings import T2ISettings

log = logging.getLogger(__name__)

#: Keys of a request that are not parameters.
CONTROL_KEYS: Final = frozenset({"session_id", "presets", "extra_metadata"})
#: The most memory that the pictures in one user's requests may take.
MAX_PICTURE_BYTES: Final = 256 << 20
MAIN: Final = "Stable-Diffusion"
#: The user setting that names the VAE for a compat class.
VAE_SETTINGS: Final[Mapping[str, str]] = {
    "stable-diffusion-v1": "vaes.defaultsdv1vae",
    "stable-diffusion-xl-v1": "vaes.defaultsdxlvae",
}


@attrs.frozen(eq=False)
class ImageRequest:
    """One checked request: `images` x `batch_size` pictures that differ in their seeds alone.

    `values` are the parameters as they apply, typed, by id; a model is a `Model`. `features` are what a backend
    must support. `extra` goes into the metadata beside the parameters. `settings` are the user's.
    `created` is the local time at which it came, `number` counts the requests of that minute.
    `model_named` is False if the server chose the model. `loras` come with their weights. `quality` is what an old name
    of a format stands for. `choices` are the values of dropdowns, by id, that only some backends take.
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
    loras: tuple[tuple[Model, float], ...] = ()
    quality: int | None = None
    choices: frozenset[tuple[str, str]] = frozenset()
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

    def picture(self, key: str) -> bytes | None:
        """The file that came as a parameter, or None."""
        value = self.values.get(key)
        return value.data if isinstance(value, GivenImage) else None

    @property
    def picture_bytes(self) -> int:
        """How large the files are that came with it."""
        return sum(len(value.data) for value in self.values.values() if isinstance(value, GivenImage))

    @property
    def cost(self) -> int:
        """The work in one picture: pixels x steps."""
        return self.width * self.height * max(1, int(self.amount("steps", 20)))

    @property
    def transient(self) -> bool:
        """Whether the pictures are sent as data and not kept."""
        return self.flag("donotsave") or self.settings.get("savefiles") is False


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
        draft = Draft(self.registry, partial(self._find, session), allowed, self.limits.max_prompt)
        extra = read_extra(body.get("extra_metadata"))
        for key, raw in body.items():
            if key not in CONTROL_KEYS:
                draft.apply(key, raw)
        titles = read_titles(body.get("presets"))
        users: UserData | None = self.services.find(UserData)  # type: ignore[type-abstract]
        if titles:
            extra["presets_used"] = titles
            await _apply_presets(draft, users, session.user_id, titles)
        await draft.read_images()
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
        self, draft: Draft, session: Session, settings: Mapping[str, Any], extra: dict[str, Any]
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
            loras=self._loras(values, session),
            quality=draft.quality,
            choices=self.registry.choices(values),
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

    def _loras(self, values: dict[str, Value], session: Session) -> tuple[tuple[Model, float], ...]:
        """The LoRAs with their weights, of which there are then as many."""
        names, given = values.get("loras", []), values.pop("loraweights", [])
        if not isinstance(names, list) or not isinstance(given, list) or not names:
            return ()
        weights = [*given, *["1"] * len(names)][: len(names)]
        values["loraweights"] = weights
        found = [self.models.get(name, "LoRA", session) for name in names]
        return tuple((lora, float(w)) for lora, w in zip(found, weights, strict=True) if lora is not None)


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


def check_pictures(request: ImageRequest, unfinished: Iterable[ImageRequest]) -> None:
    """Raise LimitError if a user's unfinished requests would hold too much with this one: its pictures stay in memory."""
    held = sum(other.picture_bytes for other in unfinished if other.user_id == request.user_id)
    if request.picture_bytes and held + request.picture_bytes > MAX_PICTURE_BYTES:
        raise LimitError(
            f"The init images and masks of your unfinished requests take {held >> 20} MiB; with this request's they "
            f"would take more than {MAX_PICTURE_BYTES >> 20} MiB."
        )


def _standard_size(model: Model | None) -> tuple[tuple[int, int], int]:
    if model is None:
        return (512, 512), 16
    compat = COMPAT_CLASSES.get(model.compat_class or "")
    size = (model.standard_width or 512, model.standard_height or 512)
    return size, compat.resolution_precision if compat else 16


async def _apply_presets(draft: Draft, users: UserData | None, user_id: str, titles: list[str]) -> None:
    for title in titles:
        preset = await users.preset(user_id, title) if users else None
        if preset is None:
            log.info("user %s has no preset %r", user_id, title[:80])
        for key, raw in (preset or {}).items():
            draft.apply(key, raw)

"""The first-run installation: once, over a socket, with every step told."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import attrs

from swarmkernel import (
    VERSION,
    Accounts,
    Collection,
    Plugins,
    RouteError,
    Services,
    SettingsSource,
    StartupError,
    Store,
)
from swarmkernel_basic_api.users import BadSettingError, Users

log = logging.getLogger(__name__)

Frame: TypeAlias = Mapping[str, Any]
Step: TypeAlias = tuple[str, AsyncIterator[Frame]]

KEY = "done"
JUST_SELF = "just_self"
LAN = "just_self_lan"


@attrs.frozen
class Installed:
    """That, when and by whom this server was installed; the time is in Unix seconds."""

    at: float
    version: str
    user_id: str
    installed_for: str


@attrs.frozen
class Choices:
    """What the user chose, checked as far as this package knows of it."""

    theme: str
    language: str
    installed_for: str
    backend: str
    models: tuple[str, ...]

    @classmethod
    async def read(
        cls, users: Users, theme: str, language: str, installed_for: str, backend: str, models: str
    ) -> "Choices":
        """Check what a client sent; RouteError for what cannot be."""
        if installed_for not in {JUST_SELF, LAN}:
            raise RouteError(f"Unknown installed_for {installed_for[:40]!r}: {JUST_SELF} or {LAN}.")
        if backend.strip().lower() == "stabilityapi":
            raise RouteError("The Stability API is no backend any more; choose comfyui or none.")
        try:
            checked = await users.read_settings({"theme": theme, "language": language})
        except BadSettingError as exc:
            raise RouteError(str(exc)) from None
        wanted = (name.strip() for name in models.split(","))
        ids = dict.fromkeys(name for name in wanted if name not in {"", "none"})
        return cls(
            checked["theme"], checked["language"], installed_for, backend.strip() or "none", tuple(ids)
        )

    @property
    def defaults(self) -> dict[str, str]:
        """The values of user settings that become everybody's."""
        return {"theme": self.theme, "language": self.language}

    @property
    def settings(self) -> dict[str, dict[str, object]]:
        """What goes into the settings file, by table."""
        tables: dict[str, dict[str, object]] = {"basic_api.default_user": dict(self.defaults)}
        if self.installed_for == JUST_SELF:
            return tables | {"server": {"host": "127.0.0.1"}}
        name = socket.gethostname().lower().rstrip(".")
        hosts = list(dict.fromkeys((name, f"{name.partition('.')[0]}.local")))
        return tables | {"server": {"host": "0.0.0.0", "hosts": hosts}, "accounts": {"required": True}}  # noqa: S104


@attrs.define
class Counter:
    """How many of the installation's steps are done; every frame of progress says so."""

    total: int
    done: int = 1

    def shown(self, frame: Frame) -> Frame:
        """A step's own *frame* as the client gets it."""
        if "progress" not in frame:
            return frame
        counts = {"steps": self.done, "total_steps": self.total}
        return {"progress": 0, "total": 0, "per_second": 0, **frame, **counts}

    def advance(self) -> Frame:
        """Count a step."""
        self.done += 1
        return self.shown({"progress": 0})


@attrs.define(eq=False)
class Installer:
    """Installs this server once. It counts as installed too if it had a settings file when it started."""

    _services: Services
    _users: Users
    _rows: Collection[Installed]
    _was_set_up: bool
    _running: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    @classmethod
    def of(cls, services: Services, users: Users) -> "Installer":
        """The installer of this server. Blocks."""
        file = services.get(SettingsSource).file
        rows = services.get(Store).collection("install", Installed)  # type: ignore[type-abstract]
        return cls(services, users, rows, file is not None and file.exists())

    async def run(self, choices: Choices, user_id: str) -> AsyncGenerator[Frame]:
        """
        Install, and tell what is done; RouteError before anything was done, or when the backend cannot be set up.

        Who stops listening stops it. Until the settings are saved it can be begun again.
        """
        if self._running.locked():
            raise RouteError("An installation is running already.")
        async with self._running:
            if self._was_set_up or await self._rows.get(KEY):
                raise RouteError("This server is installed already; change its settings instead.")
            backend, models = self._plan(choices)
            async with aclosing(self._install(choices, user_id, backend, models)) as frames:
                async for frame in frames:
                    yield frame

    def _plan(self, choices: Choices) -> tuple[list[Step], list[Step]]:
        """The steps for the backend and for the models; every choice has to be somebody's."""
        if choices.installed_for == LAN and not self._has("accounts"):
            raise RouteError(
                f"{LAN} needs accounts, so that not everybody in the network is the owner; "
                "install the package swarmkernel-accounts and restart the server, or choose just_self."
            )
        backend = self._steps(attrs.evolve(choices, models=()))
        if choices.backend != "none" and not backend and not self._has("backend_api"):
            raise RouteError(f"No plugin of this server sets up the backend {choices.backend[:40]!r}.")
        given = {title for title, _ in backend}
        models: list[Step] = []
        for model in choices.models:
            steps = self._steps(attrs.evolve(choices, models=(model,)))
            mine = [step for step in steps if step[0] not in given]
            if not mine:
                raise RouteError(f"No plugin of this server fetches the model {model[:40]!r}.")
            models += mine
        return backend, models

    def _has(self, name: str) -> bool:
        return any(plugin.name == name for plugin in self._services.get(Plugins).working())

    def _steps(self, choices: Choices) -> list[Step]:
        told = attrs.asdict(choices, recurse=False)
        found = self._services.get(Plugins).implementations("basic_install")
        return [step for _, ask in found for step in ask(services=self._services, choices=dict(told)) or ()]

    async def _install(
        self, choices: Choices, user_id: str, backend: list[Step], models: list[Step]
    ) -> AsyncGenerator[Frame]:
        has_backend = bool(backend) or choices.backend != "none"
        counter = Counter(4 + has_backend + len(models))
        yield {"info": f"Installing: theme {choices.theme}, language {choices.language}."}
        for text in self._about_network(choices):
            yield {"info": text}
        yield counter.advance()
        async for frame in _following(backend):
            yield counter.shown(frame)
        if has_backend:
            yield counter.advance()
        await self._commit(choices, user_id)
        yield {"info": "The settings are saved."}
        yield counter.advance()
        for model in models:
            async for frame in _tolerant(model):
                yield counter.shown(frame)
            yield counter.advance()
        yield {"info": "Installed."}
        yield counter.advance()
        yield {"success": True}

    def _about_network(self, choices: Choices) -> Iterable[str]:
        if choices.installed_for == JUST_SELF:
            yield "This server is for this machine alone."
            return
        yield "With its next start this server listens to the whole network, and everybody has to log in."
        if self._services.find(Accounts) is None:  # type: ignore[type-abstract]
            yield (
                "The first owner is then made with the token that the server prints on its console, "
                "or now by `swarmkernel users add NAME --role owner`."
            )

    async def _commit(self, choices: Choices, user_id: str) -> None:
        """Save the settings and that it is done; begun, this ends, whether anybody still listens or not."""
        saving = asyncio.create_task(self._save(choices, user_id))
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            await saving
            raise

    async def _save(self, choices: Choices, user_id: str) -> None:
        try:
            await asyncio.to_thread(self._services.get(SettingsSource).save, choices.settings)
        except StartupError as exc:
            log.error("the installation could not save its settings: %s", exc)  # noqa: TRY400
            raise RouteError("The settings file could not be written; the server's log says why.") from exc
        await self._rows.put(KEY, Installed(time.time(), VERSION, user_id, choices.installed_for))
        self._users.change_defaults(choices.defaults)


async def _following(steps: Iterable[Step]) -> AsyncGenerator[Frame]:
    """The frames of *steps*, one step after the other."""
    for title, frames in steps:
        yield {"info": f"{title}."}
        async with aclosing(frames):  # type: ignore[type-var]
            async for frame in frames:
                yield frame


async def _tolerant(step: Step) -> AsyncGenerator[Frame]:
    """The frames of a step whose failure is told and no more."""
    try:
        async with aclosing(_following([step])) as frames:
            async for frame in frames:
                yield frame
    except RouteError as exc:
        yield {"info": str(exc)}
    except Exception:
        log.exception("installing %s failed", step[0])
        yield {"info": f"{step[0]} failed; the server's log says why."}

"""Workers in other interpreters than the server's, so that backends with clashing libraries can live in one server."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final

import attrs

from swarmkernel_backend_api.errors import BackendError
from swarmkernel_backend_api.forms import setting
from swarmkernel_backend_api.logs import escaped
from swarmkernel_backend_api.processes import signal_group
from swarmkernel_backend_api.types import BackendType, WithPython, address_of

log = logging.getLogger(__name__)
_OWN: Final = "The server's own"
_OLDEST: Final = (3, 11)
_PLUGINS: Final = "swarmkernel.v1"
_MARK: Final = "swarmkernel-interpreter:"
_PROBE: Final = f"""
import json, sys
missing, versions = [], {{}}
if sys.version_info >= {_OLDEST}:
    from importlib.metadata import entry_points
    from importlib.util import find_spec
    missing = [name for name in sys.argv[1:] if find_spec(name) is None]
    versions = {{ep.dist.name: ep.dist.version for ep in entry_points(group="{_PLUGINS}")}}
print("{_MARK}" + json.dumps([sys.version_info[:2], missing, versions]))
"""
"""Run by any Python, however old."""
_PROBE_BYTES: Final = 1 << 16
_PROBE_SECONDS: Final = 30.0


@attrs.frozen
class Interpreter:
    """A Python that runs workers: the server's own, or one to which the operator gave a name."""

    path: str = sys.executable
    name: str = ""

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """What of *env* a worker here has: in another interpreter, nothing that leads to the server's own libraries."""
        if not self.name:
            return dict(env)
        kept = {name: value for name, value in env.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"}

    async def check(self, kind: BackendType, env: Mapping[str, str]) -> None:
        """``BackendError`` unless backends of this type can run here, with the versions that the server has."""
        if not self.name:
            return
        packages = dict.fromkeys([__name__, address_of(kind.make)])
        found = await self._probe([name.partition(".")[0].partition(":")[0] for name in packages], env)
        own = await asyncio.to_thread(_versions)
        if wrong := _wrong(found, own):
            raise BackendError(f"The interpreter {self.name!r} {wrong}.", "interpreter_unusable")

    async def _probe(self, packages: list[str], env: Mapping[str, str]) -> Any:
        """What the interpreter says of itself: its Python's version, what it lacks, versions of plugins; None if nothing."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(self.path, "-I", "-c", _PROBE, *packages),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            text = f"The interpreter {self.name!r} cannot be run: {error.strerror}."
            raise BackendError(text, "interpreter_unusable") from error
        try:
            said = await _heard(process)
        finally:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        _, marked, answer = said.rpartition(_MARK)
        with contextlib.suppress(ValueError):
            return json.loads(answer) if marked else None
        log.warning("%s said: %s", self.path, escaped(said[-2000:]))
        return None


async def _heard(process: asyncio.subprocess.Process) -> str:
    """The output of a process, as far as it comes soon."""
    assert process.stdout is not None  # noqa: S101  # a pipe
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            said = await process.stdout.readexactly(_PROBE_BYTES)
    except asyncio.IncompleteReadError as whole:
        said = whole.partial
    except TimeoutError:
        said = b""
    return said.decode(errors="replace")


def _versions() -> dict[str, str]:
    return {ep.dist.name: ep.dist.version for ep in entry_points(group=_PLUGINS) if ep.dist}


def _wrong(found: Any, own: Mapping[str, str]) -> str:
    """What is wrong with an interpreter that has said this of itself."""
    if found is None:
        return "is no Python that works; what it said is in the server's log"
    python, missing, versions = found
    if tuple(python) < _OLDEST:
        return f"is Python {'.'.join(map(str, python))}; backends need {'.'.join(map(str, _OLDEST))} or later"
    if missing:
        return f"has no {missing[-1]}; install the backend's package there"
    others = sorted(name for name in own.keys() & versions.keys() if own[name] != versions[name])
    if others:
        listed = ", ".join(f"{name} {versions[name]} where the server has {own[name]}" for name in others)
        return f"has {listed}; install the same version there"
    return ""


def absolute(_instance: Any, attribute: "attrs.Attribute[Any]", value: Mapping[str, str]) -> None:
    """An attrs validator: name -> whole path."""
    for name, path in value.items():
        if not (name and os.path.isabs(path)):  # noqa: PTH117  # text, as it is run
            raise ValueError(
                f"{attribute.name}.{name} must be the whole path of a Python interpreter, not {path!r}"
            )


def warn_of_missing(interpreters: Mapping[str, str]) -> None:
    """Log the interpreters that are not there; backends may never choose them."""
    for name, path in interpreters.items():
        if not os.access(path, os.X_OK):
            log.warning("the interpreter %s of the settings cannot be run: %s", name, path)


def offering(kind: BackendType, interpreters: Mapping[str, str]) -> BackendType:
    """The type, its form with a dropdown ``python`` of the operator's interpreters if there are any."""
    if kind.in_process or not interpreters:
        return kind
    return attrs.evolve(kind, settings=_with_python(kind.settings, tuple(interpreters)))


def _with_python(settings: type, names: tuple[str, ...]) -> type:
    @attrs.frozen
    class Offering(settings, WithPython):  # type: ignore[misc]  # one class per type
        python: str = setting(
            "",
            description="The interpreter that runs this backend, with the libraries installed there.",
            values=("", *names),
            value_names=(_OWN, *names),
        )

    return Offering


def bare(settings: type) -> type:
    """The class of settings that the backend itself knows."""
    return settings.__bases__[0] if issubclass(settings, WithPython) else settings


def chosen(settings: Any, interpreters: Mapping[str, str]) -> Interpreter:
    """The interpreter that a backend's settings name, or the server's own."""
    name = getattr(settings, "python", "")
    return Interpreter(interpreters[name], name) if name else Interpreter()


def withdrawn(kind: BackendType, raw: Mapping[str, Any]) -> str | None:
    """What is wrong with stored settings that name an interpreter where none is offered any more."""
    if not raw.get("python") or kind.in_process or issubclass(kind.settings, WithPython):
        return None
    return f"The settings of the server no longer name the interpreter {raw['python']!r}."

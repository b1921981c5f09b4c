"""What a first-run installation does about backends."""

import types
from collections.abc import Iterable

import attrs
import pytest

from swarmkernel import Plugins, RouteError, Services
from swarmkernel.plugins import Plugin
from swarmkernel_backend_api import Backends, NewBackend, hookimpl
from swarmkernel_backend_api.plugin import basic_install
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.testing import SYNTHETIC, fleet

KINDS = [SYNTHETIC, attrs.evolve(SYNTHETIC, id="plain", name="Plain")]
USUAL = [NewBackend("synthetic", "One", {"slots": 2}), NewBackend("synthetic", "Two")]


def services_of(
    backends: Backends, proposed: Iterable[NewBackend] = USUAL, *, locked: bool = False
) -> Services:
    """The services that the installation needs, with a plugin that proposes backends."""
    module = types.ModuleType("proposing")

    @hookimpl
    def backend_defaults() -> list[NewBackend]:
        return list(proposed)

    module.backend_defaults = backend_defaults
    plugins, services = Plugins(), Services()
    plugins.add(Plugin("proposing", "test", module))
    services.add(Plugins, plugins)
    services.add(Backends, backends)
    services.add(BackendApiSettings, BackendApiSettings(lock_settings=locked))
    return services


async def install(backends: Backends, wanted: str, **options: object) -> list[object]:
    """Do what the hook says; all that was told on the way."""
    told: list[object] = []
    for title, frames in basic_install(services_of(backends, **options), {"backend": wanted, "theme": "x"}):
        told.append(title)
        told += [frame async for frame in frames]
    return told


async def test_usual() -> None:
    """`comfyui` adds those of the proposed backends that are not there, with their settings; a second time it adds none."""
    async with fleet(KINDS) as backends:
        await backends.add("synthetic", title="Two")
        told = await install(backends, "comfyui")
        assert ["Add a backend of the type synthetic", {"info": "Added backend 1 (One)."}] == told
        assert [("Two", 1), ("One", 2)] == [(slot.title, slot.settings.slots) for slot in backends]
        assert [] == await install(backends, "comfyui")


async def test_none() -> None:
    """`none` removes what was made by default, and nothing that somebody added."""
    async with fleet(KINDS) as backends:
        for title in ("One", "Mine", "Two"):
            await backends.add("synthetic", title=title)
        await backends.add("plain", title="One")
        told = await install(backends, "none")
        assert ["Remove backend 0 (One)", {"info": "Removed backend 0 (One)."}] == told[:2]
        assert [("synthetic", "Mine"), ("plain", "One")] == [(slot.type.id, slot.title) for slot in backends]
        assert [] == await install(backends, "none")


async def test_a_type() -> None:
    """A type's id gives one backend of that type, unless there is one."""
    async with fleet(KINDS) as backends:
        await install(backends, "plain")
        await install(backends, "plain")
        assert ["plain"] == [slot.type.id for slot in backends]


@pytest.mark.parametrize("wanted", ["", "stabilityapi", "ComfyUI", "x" * 500])
async def test_wrong_choices(wanted: str) -> None:
    """Anything else is refused before anything is done, with what would be right."""
    async with fleet(KINDS) as backends:
        with pytest.raises(RouteError, match=r"there are none, comfyui, synthetic, plain\.$"):
            basic_install(services_of(backends), {"backend": wanted})
        assert [] == list(backends)


async def test_locked() -> None:
    """With locked settings a choice that would change something is refused, and one that is so already is not."""
    async with fleet(KINDS) as backends:
        with pytest.raises(RouteError, match="locked"):
            basic_install(services_of(backends, locked=True), {"backend": "comfyui"})
        assert [] == await install(backends, "none", locked=True)


async def test_a_proposal_that_does_not_fit() -> None:
    """A proposed backend that cannot be added is an error with its reason."""
    async with fleet(KINDS) as backends:
        with pytest.raises(RouteError, match="'slots' must be an integer"):
            await install(backends, "comfyui", proposed=[NewBackend("plain", settings={"slots": "x"})])

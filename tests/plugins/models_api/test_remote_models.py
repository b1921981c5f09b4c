"""Models that only backends have, beside those that are here."""

import asyncio
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from swarmkernel import MemoryStore
from swarmkernel_backend_api import BackendError, BackendSlot, BackendType, NoSettings, Status
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_models_api import Model, ModelFolder, ModelList, Models, ModelsRefreshed
from swarmkernel_models_api.loading import load_request
from swarmkernel_models_api.remote import RemoteModels, has_model

KIND = BackendType("far", "Far", make="far:Far", settings=NoSettings)


def model(name: str, **values: object) -> Model:
    """A main model; of a known class unless said otherwise."""
    return Model(name, "Stable-Diffusion", Path(), name, class_id="stable-diffusion-v1", **values)


def having(*names: str) -> BackendSlot:
    """A backend that has these models."""
    found = {name: model(name, is_local=False) for name in names}
    return BackendSlot(0, KIND, NoSettings(), lambda: None, models=ModelList({"Stable-Diffusion": found}))


@pytest.fixture(name="here")
def _here(tmp_path) -> Path:
    (tmp_path / "both.safetensors").write_bytes(b"nothing")
    return tmp_path


async def test_they_are_listed(here) -> None:
    """Models of backends are listed and found like any other, by kind; one of a name that is here too is the one here."""
    slots = [
        having("b/two", "both"),
        having("a.safetensors", "b/two.safetensors"),
        attrs.evolve(having(), models=None),
    ]
    models = Models([ModelFolder(here)], MemoryStore(), remote=RemoteModels(slots))
    await models.refresh()
    assert [("a.safetensors", False), ("b/two", False), ("both.safetensors", True)] == [
        (each.name, each.is_local) for each in models.list()
    ]
    assert "b/two" == models.find("TWO").name
    assert [] == models.list("VAE")
    assert "a.safetensors" == models.default().name
    assert None is await models.tensor_hash(models.get("a"))
    assert "" == load_request(models.get("a")).path


async def test_they_come_and_go(here) -> None:
    """What a backend has now is what is listed now."""
    slots = [having("one")]
    models = Models([ModelFolder(here)], MemoryStore(), remote=RemoteModels(slots))
    assert ["one"] == [each.name for each in models.list()]
    await models.refresh()
    assert ["both.safetensors", "one"] == [each.name for each in models.list()]
    slots[0].models = having("three").models
    assert ["both.safetensors", "three"] == [each.name for each in models.list()]
    slots.clear()
    assert ["both.safetensors"] == [each.name for each in models.list()]


@attrs.define
class Far:
    """A backend that looks for models when it is told to, or does not."""

    settings: NoSettings
    looked: ClassVar[int] = 0
    how: ClassVar[str] = "well"

    async def start(self):
        Far.looked = 0

    async def stop(self): ...

    async def refresh_models(self, _request):
        Far.looked += 1
        if self.how == "badly":
            raise BackendError("out of reach")
        if self.how == "slowly":
            await asyncio.sleep(60)
        return ModelsRefreshed()


@pytest.mark.parametrize("how", ["well", "badly", "slowly"])
async def test_backends_look_too(monkeypatch, how) -> None:
    """Backends that can look for new models do so when the folders are scanned; one that fails or hangs holds nothing up."""
    monkeypatch.setattr(Far, "how", how)
    kinds = [
        BackendType(name, name, make=make, settings=NoSettings, in_process=True)
        for name, make in (("far", Far), ("near", lambda _: Near()))
    ]
    async with asyncio.timeout(20), fleet(kinds) as backends:
        slots = [await backends.add(kind.id) for kind in kinds]
        await until(backends, lambda: all(slot.status is Status.RUNNING for slot in slots))
        remote = RemoteModels(backends, patience=0.1)
        await Models([], MemoryStore(), remote=remote).refresh()
        assert 1 == Far.looked


class Near:
    """A backend that cannot."""

    async def start(self): ...

    async def stop(self): ...


async def test_rules_hold_for_them() -> None:
    """A user does not know of a remote model that the rules hide."""
    models = Models([], MemoryStore(), remote=RemoteModels([having("one", "two")]))
    models.restrict(lambda user, each: user == "ann" or each.name != "one")
    assert [True, False] == [models.visible_to(user, models.get("one")) for user in ("ann", "ben")]


def test_who_has_a_model() -> None:
    """A backend with models of its own has those, whatever their ending; another has what is here."""
    near, far = attrs.evolve(having(), models=None), having("one.safetensors")
    assert [True, False] == [has_model(near, model("one", is_local=local)) for local in (True, False)]
    assert [True, True, False] == [
        has_model(far, each) for each in (model("one"), model("one", is_local=False), model("two"))
    ]

"""Loads are shared, remembered and given up as the callers need."""

import asyncio
from pathlib import Path

import attrs
import pytest

from swarmkernel import MemoryStore
from swarmkernel_backend_api import BackendError, BackendType, NoSettings, Status
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_models_api import Loaded, Model, ModelFolder, ModelLoadError, Models, loading

from .conftest import write


@attrs.define
class Loader:
    """Loads in this very process, when it is told to."""

    settings: NoSettings
    asked: list = attrs.field(factory=list)
    may_go_on: asyncio.Event = attrs.field(factory=asyncio.Event)
    error: str = ""

    async def start(self):
        made.append(self)

    async def stop(self):
        pass

    async def load_model(self, request):
        self.asked.append(request)
        await self.may_go_on.wait()
        if self.error:
            raise BackendError(self.error)
        yield Loaded(request.name)


@attrs.define
class Forgetful(Loader):
    """Ends a load without saying how it went."""

    async def load_model(self, request):
        for nothing in ():
            yield nothing


made: list[Loader] = []
KINDS = [
    BackendType("loader", "Loader", make=Loader, settings=NoSettings, in_process=True),
    BackendType("forgetful", "Forgetful", make=Forgetful, settings=NoSettings, in_process=True),
]


def model(name="m.safetensors", **values):
    return Model(name, "Stable-Diffusion", Path("/m") / name, name, stamp="1", **values)


@pytest.fixture
async def models():
    """The service, over no folders."""
    service = Models([], MemoryStore())
    yield service
    await service.close()


@pytest.fixture
async def slot():
    """A running backend that holds no model."""
    made.clear()
    async with fleet(KINDS) as backends:
        found = await backends.add("loader")
        await until(backends, lambda: found.status is Status.RUNNING)
        yield found


async def test_one_load_for_all(models, slot):
    """Fifty callers share one load, and the slot says what it holds only once it does."""
    callers = [asyncio.create_task(models.load_model(slot, model())) for _ in range(50)]
    await asyncio.sleep(0.05)
    assert slot.current_model is None
    made[0].may_go_on.set()
    await asyncio.gather(*callers)
    await models.load_model(slot, model())
    assert ("m.safetensors", 1) == (slot.current_model, len(made[0].asked))
    assert models.holds(slot, model())


async def test_who_gives_up_ends_nothing(models, slot):
    """A caller that is cancelled leaves the load to the others."""
    first, second = (asyncio.create_task(models.load_model(slot, model())) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.wait({first})
    made[0].may_go_on.set()
    await second
    assert 1 == len(made[0].asked)


async def test_another_model_waits_its_turn(models, slot):
    """Two models for one backend are loaded one after the other; the last stays."""
    made[0].may_go_on.set()
    await asyncio.gather(models.load_model(slot, model("a")), models.load_model(slot, model("b")))
    assert ["a", "b"] == [request.name for request in made[0].asked]
    assert "b" == slot.current_model


async def test_failure_is_remembered_for_a_while(models, slot, monkeypatch):
    """A failure is told to all who wait, and to who asks again within the time, without another load."""
    made[0].error = "too odd"
    made[0].may_go_on.set()
    answers = await asyncio.gather(
        *(models.load_model(slot, model()) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, ModelLoadError) and "too odd" in str(answer) for answer in answers)
    with pytest.raises(ModelLoadError, match="too odd"):
        await models.load_model(slot, model())
    assert (None, 1) == (slot.current_model, len(made[0].asked))

    made[0].error = ""
    await models.load_model(slot, attrs.evolve(model(), stamp="2"))
    assert 2 == len(made[0].asked)
    with pytest.raises(ModelLoadError):
        await models.load_model(slot, model())
    monkeypatch.setattr(loading, "FAILURE_SECONDS", 0.0)
    await models.load_model(slot, model())
    assert 3 == len(made[0].asked)


async def test_a_replaced_file_is_loaded_again(models, slot):
    """A model whose file changed, or which gets another VAE, is another one to the backend."""
    made[0].may_go_on.set()
    await models.load_model(slot, model())
    await models.load_model(slot, attrs.evolve(model(), stamp="2"))
    await models.load_model(slot, attrs.evolve(model(), stamp="2"), vae=model("v"))
    assert [None, None, "/m/v"] == [request.vae_path for request in made[0].asked]


async def test_a_problem_never_reaches_a_backend(models, slot):
    """A file that cannot be used is refused with its problem."""
    with pytest.raises(ModelLoadError, match="a pickle"):
        await models.load_model(slot, model(problem="a pickle"))
    assert [] == made[0].asked


async def test_a_load_must_end_in_words():
    """A backend that stops without `Loaded` has not loaded anything."""
    models = Models([], MemoryStore())
    async with fleet(KINDS) as backends:
        slot = await backends.add("forgetful")
        await until(backends, lambda: slot.status is Status.RUNNING)
        with pytest.raises(ModelLoadError, match="without saying"):
            await models.load_model(slot, model())


async def test_rules(tmp_path):
    """A rule hides models from those whom it does not allow them, everywhere."""
    write(tmp_path / "secret/x.safetensors")
    write(tmp_path / "open/y.safetensors")
    models = Models([ModelFolder(tmp_path)], MemoryStore())
    await models.refresh()
    models.restrict(lambda user_id, found: user_id == "owner" or not found.name.startswith("secret/"))
    guest, owner = User("guest"), User("owner")
    assert ["open/y.safetensors"] == [found.name for found in models.list(session=guest)]
    assert models.find("x", session=guest) is None
    assert models.get("secret/x", session=guest) is None
    assert "secret/x.safetensors" == models.find("x", session=owner).name
    assert "open/y.safetensors" == models.default(session=guest).name
    assert not models.allowed(guest, models.get("secret/x"))


@attrs.frozen
class User:
    """As much of a session as a rule needs."""

    user_id: str


async def test_refresh_while_scanning(tmp_path):
    """Who asks for a refresh while one runs sees what was changed before the call."""
    models = Models([ModelFolder(tmp_path)], MemoryStore())
    for number in range(300):
        write(tmp_path / f"{number}.safetensors")
    first = asyncio.create_task(models.refresh())
    await asyncio.sleep(0.01)
    write(tmp_path / "late.safetensors")
    await asyncio.gather(*(models.refresh() for _ in range(5)))
    assert models.get("late") is not None
    await first
    assert models._scans_done <= 3

"""What a start adds and switches where the settings name an engine."""

import attrs
import pytest

from swarmkernel import MemoryStore
from swarmkernel_backend_api import BackendType, NewBackend, NoSettings
from swarmkernel_backend_api.engines import to_add
from swarmkernel_backend_api.records import Records, StoredBackend
from swarmkernel_backend_api.testing.harness import VAULT

SD = frozenset({"stable-diffusion-v1"})
TYPES = {
    name: BackendType(name, name, make="a:B", settings=NoSettings, compat_classes=classes)
    for name, classes in (("onnx", SD), ("torch", SD | {"flux"}), ("cloud", frozenset[str]()))
}
HERE = [NewBackend("torch", "This machine"), NewBackend("cloud", "Far away")]


async def kept(*found: str) -> Records:
    """Records with backends of these types, switched off where a type has a minus before it."""
    records = Records.of(MemoryStore(), VAULT)
    for number, name in enumerate(found):
        type_id = name.removeprefix("-")
        await records.save(StoredBackend(number, type_id, "Mine", enabled=type_id == name, settings={}))
    return records


async def running(records: Records) -> list[str]:
    """The types of the stored backends, with a minus before those that are switched off."""
    return [("" if record.enabled else "-") + record.type_id for record in await records.load()]


@pytest.mark.parametrize(
    ("stored", "engine", "after", "added"),
    [
        ([], "", [], HERE),
        ([], "torch", [], HERE),
        ([], "onnx", [], [HERE[1], NewBackend("onnx", "This machine")]),
        (["onnx"], "", ["onnx"], []),
        (["onnx"], "torch", ["-onnx"], HERE[:1]),
        (["onnx", "torch", "cloud"], "torch", ["-onnx", "torch", "cloud"], []),
        (["-onnx", "torch"], "onnx", ["onnx", "-torch"], []),
        (["-onnx", "onnx", "onnx"], "onnx", ["-onnx", "onnx", "onnx"], []),
        (["-onnx", "-onnx", "gone"], "onnx", ["onnx", "-onnx", "gone"], []),
        (["onnx", "-cloud"], "cloud", ["onnx", "cloud"], []),
    ],
    ids=str,
)
async def test_the_engine(stored: list[str], engine: str, after: list[str], added: list[NewBackend]) -> None:
    """The named engine runs and its rivals do not; other backends stay as they are, and what was deleted stays away."""
    records = await kept(*stored)

    assert added == await to_add(records, TYPES, engine, HERE)
    assert after == await running(records)


async def test_an_engine_that_is_not_installed(caplog: pytest.LogCaptureFixture) -> None:
    """A name that no type has is logged and changes nothing."""
    records = await kept("onnx")

    assert [] == await to_add(records, TYPES, "tensor", HERE)
    assert ["onnx"] == await running(records)
    assert "'tensor'" in caplog.text


async def test_an_engine_keeps_its_settings() -> None:
    """What a package proposes for its engine is added as it is."""
    proposed = [attrs.evolve(HERE[0], settings={"device": "cpu"})]

    assert proposed == await to_add(await kept("onnx"), TYPES, "torch", proposed)

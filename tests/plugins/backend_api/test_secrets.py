"""Secrets of backends at rest, in texts, and in the audit log."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from swarmkernel import Audit, MemoryStore, Vault, with_store
from swarmkernel.testing import FakeDistributions, LiveServer
from swarmkernel_backend_api import BackendType, SettingsError, Status, setting
from swarmkernel_backend_api.forms import hide, to_settings
from swarmkernel_backend_api.records import Records
from swarmkernel_backend_api.routes import ROUTES
from swarmkernel_backend_api.testing import SYNTHETIC, fleet, until
from swarmkernel_backend_api.testing.harness import VAULT

CANARY = "canary-5d41402abc4b2a76"
PLUGIN = """
from swarmkernel_backend_api import hookimpl
from swarmkernel_backend_api.testing import SYNTHETIC

@hookimpl
def backend_types():
    return [SYNTHETIC]
"""


@attrs.frozen
class Settings:
    key: str = setting("", title="Key", secret=True)
    keys: list[str] = setting([], secret=True)  # noqa: RUF009  # as attrs.field
    code: int = setting(0, secret=True, validator=attrs.validators.lt(10**9))
    mode: str = setting("a", values=["a", "b"], secret=True)
    maybe: str | None = setting(None, secret=True)
    open: str = "shown"


MANY = BackendType(
    "many",
    "Many secrets",
    make="swarmkernel_backend_api.testing.synthetic:SyntheticBackend",
    settings=Settings,
)


async def stored(store: MemoryStore) -> dict[str, Any]:
    """The settings of the first backend as the store has them."""
    return (await Records.of(store, VAULT).load())[0].settings


async def test_secrets_are_stored_sealed() -> None:
    """Secrets of every kind are sealed in the store, empty ones and all else stay as they are, and a restart opens them."""
    store = MemoryStore()
    values = {"Key": CANARY, "keys": [CANARY, "two"], "code": 4711, "mode": "b", "maybe": None, "open": "x"}
    async with fleet([MANY], store) as backends:
        await backends.add("many", values)
        kept = await stored(store)
        assert CANARY not in str(kept)
        assert "4711" not in str(kept)
        sealed = [kept["Key"], *kept["keys"], kept["code"], kept["mode"]]
        assert all(text.startswith("enc1:") for text in sealed)
        assert (None, "x") == (kept["maybe"], kept["open"])
        assert [CANARY, CANARY, "two"] == [VAULT.open(text) for text in sealed[:3]]
    async with fleet([MANY], store) as backends:
        assert Settings(CANARY, [CANARY, "two"], 4711, "b", None, "x") == backends.get(0).settings


async def test_old_rows_in_clear_are_read_and_sealed() -> None:
    """A secret that an older version stored in clear works, and is sealed with the next write of its backend."""
    store = MemoryStore()
    async with fleet([SYNTHETIC], store) as backends:
        await backends.add("synthetic", {"ApiKey": CANARY})
        record = (await backends.records.load())[0]
        await backends.records.save(attrs.evolve(record, settings={**record.settings, "ApiKey": CANARY}))
    async with fleet([SYNTHETIC], store) as backends:
        assert CANARY == backends.get(0).settings.secret
        assert CANARY == (await stored(store))["ApiKey"]
        await backends.toggle(0, enabled=False)
        assert CANARY == VAULT.open((await stored(store))["ApiKey"])
        assert CANARY not in str(await stored(store))


async def test_another_key_is_said_and_costs_nothing_else() -> None:
    """With another key the backend is errored and says why; its other settings and the sealed secret are kept."""
    store = MemoryStore()
    async with fleet([SYNTHETIC], store) as backends:
        await backends.add("synthetic", {"ApiKey": CANARY, "Colour": "#123456"})
    other = Vault("another", Path())
    async with fleet([SYNTHETIC], store, other) as backends:
        slot = backends.get(0)
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert "secret.key" in slot.reason
        assert ("#123456", "") == (slot.settings.colour, slot.settings.secret)
        await backends.toggle(0, enabled=False)
        assert CANARY == VAULT.open((await stored(store))["ApiKey"])
        await backends.edit(0, {"ApiKey": "new"})
        kept = await stored(store)
        assert ("new", "#123456") == (other.open(kept["ApiKey"]), kept["Colour"])


@pytest.mark.parametrize(
    "values",
    [{"Key": [CANARY]}, {"keys": CANARY}, {"code": CANARY}, {"mode": CANARY}, {"code": 123456789012}],
)
def test_errors_do_not_repeat_secrets(values: dict[str, Any]) -> None:
    """What is said about a bad secret names the setting and not the value."""
    with pytest.raises(SettingsError) as caught:
        to_settings(Settings, values)
    assert next(iter(values)) in caught.value.text
    assert CANARY not in caught.value.text
    assert "123456789012" not in caught.value.text


def test_texts_without_secrets() -> None:
    """A text about a backend loses its secrets of every kind, and nothing else."""
    secrets = Settings(CANARY, ["first", "second"], 4711, "b", None, "open")
    assert "<secret>, <secret>, <secret> and open" == hide(f"{CANARY}, second, 4711 and open", secrets)
    assert "None or 0" == hide("None or 0", Settings())


def test_secrets_are_not_in_reprs() -> None:
    """A settings object that is logged shows no secret."""
    assert "shown" in repr(Settings(CANARY, [CANARY]))
    assert CANARY not in repr(Settings(CANARY, [CANARY]))


def test_what_is_audited() -> None:
    """Everything that changes backends is audited, by keys that hold no settings."""
    assert {
        "AddNewBackend": ("type_id",),
        "DeleteBackend": ("backend_id",),
        "EditBackend": ("backend_id", "title", "new_id"),
        "FreeBackendMemory": ("backend",),
        "RestartBackends": ("backend",),
        "ToggleBackend": ("backend_id", "enabled"),
        "ListBackendTypes": None,
        "ListBackends": None,
    } == {route.name: route.audit for route in ROUTES}


def test_nothing_on_disk_tells_a_secret(tmp_path: Path, swarm_dists: FakeDistributions, swarm_serve) -> None:
    """After edits, failed ones too, no file of a real server has the secret in clear; the audit log tells the edits."""
    swarm_dists.add("synthetic_plugin", PLUGIN, requires=["swarmkernel-backend-api"])
    disabled = ["models_api", "t2i_api", "backends_onnx", "backends_torch", "starter_model"]
    options = [option for name in disabled for option in ("--disable", name)]
    server: LiveServer = swarm_serve(*options)
    client = server.client()
    number = client.post("AddNewBackend", type_id="synthetic")["id"]
    for settings in ({"ApiKey": CANARY}, {"ApiKey": CANARY, "slots": "many"}, {"ApiKey": [CANARY]}):
        answer = client.post("EditBackend", backend_id=number, title="T", settings=settings)
        assert CANARY not in str(answer)
    server.stop()
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert [] == [path for path in files if CANARY.encode() in path.read_bytes()]
    assert b"enc1:" in b"".join(path.read_bytes() for path in files)
    assert CANARY not in "".join(server.log)
    entries = with_store(
        lambda services: services.get(Audit).entries(),
        config=None,
        data_dir=tmp_path / "data",
        disable=disabled,
    )
    assert [
        ("AddNewBackend", {"type_id": "synthetic"}, "ok"),
        ("EditBackend", {"backend_id": "0", "title": "T"}, "ok"),
        ("EditBackend", {"backend_id": "0", "title": "T"}, "invalid_setting"),
        ("EditBackend", {"backend_id": "0", "title": "T"}, "invalid_setting"),
    ] == [(entry.action, entry.subject, entry.result) for entry in reversed(entries)]

"""One settings file, environment variables above it, the command line above both."""

from __future__ import annotations

import difflib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs

from swarmkernel.errors import StartupError

T = TypeVar("T")
FILE_NAME = "swarmkernel.toml"
ENV_PREFIX = "SWARMKERNEL_"
MIB = 1024 * 1024


@attrs.frozen
class ServerSettings:
    """
    The table ``[server]``. Sizes in MiB and times in seconds.

    *hosts*: names, beside loopback ones, that requests may call this server by. *allow_origin*: value of the CORS
    header, none if empty. *authorization*: a shared secret that the Authorization header must equal, none if empty.
    *trusted_proxies*: addresses whose forwarding headers are believed. *trust_user_header*: let the header
    ``X-SWARM-USER_ID`` choose the user while there are no accounts, for a proxy that has made sure of it.
    *tls_cert* and *tls_key*: PEM files; with both the server speaks HTTPS. *secret_key*: what stored secrets are
    sealed with, a file in the data folder if empty. *max_connections* and *max_incoming_mb* are for all clients
    together; a client on another machine has the *..._per_client* share, a user with an account *sockets_per_user*
    and *audited_per_minute*.
    """

    host: str = "127.0.0.1"
    port: int = 7801
    data_dir: Path = Path("data")
    hosts: list[str] = attrs.field(factory=list)
    allow_origin: str = ""
    authorization: str = attrs.field(default="", repr=False)
    trusted_proxies: list[str] = attrs.field(factory=list)
    trust_user_header: bool = False
    allow_open_network: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    secret_key: str = attrs.field(default="", repr=False)
    max_connections: int = 1024
    connections_per_client: int = 64
    sockets_per_user: int = 16
    max_incoming_mb: int = 512
    incoming_mb_per_client: int = 128
    max_body_mb: int = 64
    max_header_kb: int = 16
    body_seconds: float = 30.0
    first_message_seconds: float = 60.0
    drain_seconds: float = 30.0
    sessions_per_user: int = 1000
    audit_rows: int = 100_000
    audited_per_minute: int = 100
    log_level: str = "INFO"


@attrs.frozen
class PluginSettings:
    """
    The table ``[plugins]``.

    Which must work, which alone are imported (all if empty), which are not, and whether any failure stops the server.
    """

    required: list[str] = attrs.field(factory=list)
    enabled: list[str] = attrs.field(factory=list)
    disabled: list[str] = attrs.field(factory=list)
    strict: bool = False


def _strict(kind: type[str | int | float]) -> Any:
    def hook(value: Any, _: object) -> object:
        if type(value) is kind or (kind is float and type(value) is int):
            return kind(value)
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")

    return hook


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for kind in (str, int, float, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook_func(
        lambda kind: kind == list[str], lambda value, _: [_strict(str)(v, str) for v in _list(value)]
    )
    converter.register_structure_hook(Path, lambda value, _: Path(_strict(str)(value, str)).expanduser())
    return converter


@attrs.define
class SettingsSource:
    """
    Where settings come from: a TOML *file*, the environment, and *overrides* ``{table: {key: value}}``.

    Errors are StartupErrors that name the file or variable, the table and the key.
    """

    file: Path | None
    environ: Mapping[str, str]
    overrides: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)
    _tables: dict[str, Any] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        if self.file is None or not self.file.exists():
            return
        try:
            self._tables = tomllib.loads(self.file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise StartupError(f"{self.file}: not valid TOML: {exc}") from None
        except OSError as exc:
            raise StartupError(f"{self.file}: cannot be read: {exc.strerror}") from None

    def tables(self) -> set[str]:
        """The names of the tables in the file."""
        return set(self._tables)

    def required(self) -> set[str]:
        """The plugins whose table says ``required``: without them the server must not start, whatever keeps them out."""
        found = {
            name: t["required"] for name, t in self._tables.items() if isinstance(t, dict) and "required" in t
        }
        end = "__REQUIRED"
        for name, value in self.environ.items():
            if name.startswith(ENV_PREFIX) and name.upper().endswith(end):
                found[name[len(ENV_PREFIX) : -len(end)].lower()] = _from_text(value, bool)
        return {name for name, value in found.items() if value is not False} - {"plugins"}

    def load(self, table: str, kind: type[T]) -> T:
        """The values of *table* as an instance of the attrs class *kind*; TypeError if one of its keys has no default."""
        for key, field in _fields(kind).items():
            if field.default is attrs.NOTHING:
                raise TypeError(f"the setting {kind.__qualname__}.{key} has no default")
        in_file = self._tables.get(table, {})
        if not isinstance(in_file, dict):
            raise StartupError(f"{self.file}: {table} must be a table, written [{table}]")
        values = {k: (v, f"{self.file}: [{table}] {k}") for k, v in in_file.items()}
        values |= self._from_environ(table, kind)
        values |= {k: (v, f"--{k.replace('_', '-')}") for k, v in self.overrides.get(table, {}).items()}
        return _structure(values, kind)

    def save(self, changes: Mapping[str, Mapping[str, object]]) -> None:
        """
        Write keys of tables into the file, which keeps its comments; the next start reads them. Blocks.

        A table's name may be dotted. StartupError if the file cannot be written; then it is as it was.
        """
        import tomlkit  # noqa: PLC0415  # few servers ever write their settings

        if self.file is None:
            raise StartupError("there is no settings file to write to; start with --config or --data-dir")
        try:
            document = tomlkit.parse(self.file.read_text(encoding="utf-8") if self.file.exists() else "")
            for name, values in changes.items():
                table: Any = document
                for part in name.split("."):
                    table = table.setdefault(part, tomlkit.table())
                table.update(values)
            replace_file(self.file, tomlkit.dumps(document).encode())
        except OSError as exc:
            raise StartupError(f"{self.file}: cannot be written: {exc.strerror}") from None

    def _from_environ(self, table: str, kind: type) -> dict[str, tuple[object, str]]:
        prefix = f"{ENV_PREFIX}{table.upper()}__"
        kinds = {name: a.type for name, a in _fields(kind).items()}
        found = {name[len(prefix) :].lower(): name for name in self.environ if name.startswith(prefix)}
        return {
            key: (_from_text(self.environ[name], kinds.get(key)), f"environment variable {name}")
            for key, name in found.items()
        }


def replace_file(file: Path, content: bytes) -> None:
    """Put *content* in the place of *file*, wholly or not at all. Blocks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as draft:
        try:
            draft.write(content)
            draft.flush()
            os.fsync(draft.fileno())
            Path(draft.name).replace(file)
        except OSError:
            Path(draft.name).unlink(missing_ok=True)
            raise


def _from_text(value: str, kind: object) -> object:
    """A variable's text: as it stands for text, otherwise as a TOML value (``true``, ``8``, ``["a"]``)."""
    if kind in {str, Path}:
        return value
    try:
        return tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return value


def _fields(kind: type) -> dict[str, attrs.Attribute[Any]]:
    """The attributes of an attrs class, their annotations resolved."""
    return {a.name: a for a in attrs.fields(attrs.resolve_types(kind))}


def _structure(values: Mapping[str, tuple[object, str]], kind: type[T]) -> T:
    fields = _fields(kind)
    converter = _converter()
    read: dict[str, object] = {}
    for key, (value, origin) in values.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(fields))}"
            raise StartupError(f"{origin}: unknown setting{hint}")
        try:
            read[key] = converter.structure(value, fields[key].type or Any)
        except Exception as exc:  # noqa: BLE001  # cattrs raises many kinds
            raise StartupError(f"{origin}: {exc}") from None
    try:
        return kind(**read)
    except (TypeError, ValueError) as exc:
        raise StartupError(f"{', '.join(o for _, o in values.values()) or kind.__name__}: {exc}") from None

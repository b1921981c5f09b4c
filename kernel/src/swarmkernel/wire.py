"""JSON to parameters and back: how values of this API are read and written."""

from __future__ import annotations

import asyncio
import inspect
import math
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

import attrs
import orjson

from swarmkernel.errors import BadRequestError, RouteError
from swarmkernel.routes import Body, Handler

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
MAX_DEPTH = 64
MAX_NODES = 200_000
#: Length from which JSON takes more than a few milliseconds to read.
LONG = 256 * 1024


def parse(raw: bytes | str) -> dict[str, Any]:
    """
    Read one JSON object.

    Strict JSON: no comments, NaN or lone surrogates; of duplicate keys the last wins. At most 64 levels deep and
    200,000 values. Raises BadRequestError.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise BadRequestError(f"Invalid JSON: {exc.msg} (at character {exc.pos}).") from None
    if not isinstance(body, dict):
        raise BadRequestError("The body must be a JSON object, such as {}.")
    _measure(body)
    return body


async def parse_aside(raw: bytes | str) -> dict[str, Any]:
    """`parse`, in a thread where the text is long, so that nobody else waits for it."""
    return parse(raw) if len(raw) < LONG else await asyncio.to_thread(parse, raw)


def _measure(body: dict[str, Any]) -> None:
    layer: list[Any] = [body]
    nodes = 0
    for _ in range(MAX_DEPTH):
        nested = [c for c in layer if isinstance(c, dict | list)]
        layer = [v for c in nested for v in (c.values() if isinstance(c, dict) else c)]
        nodes += len(layer)
        if nodes > MAX_NODES:
            raise BadRequestError(f"The JSON body holds more than {MAX_NODES} values.")
        if not layer:
            return
    if any(isinstance(c, dict | list) for c in layer):
        raise BadRequestError(f"The JSON body is nested more than {MAX_DEPTH} levels deep.")


def dump(answer: object) -> bytes:
    """Write an answer as compact UTF-8 JSON; attrs values become objects."""
    return orjson.dumps(answer, default=_default, option=orjson.OPT_NON_STR_KEYS)


def _default(value: Any) -> object:
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def text(value: object) -> str:
    """How a JSON value reads as text: what a string parameter receives for it."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case int() | float():
            return str(value)
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError  # noqa: TRY004  # one error type for a bad value
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    if isinstance(value, str) and len(value) > 40:
        raise ValueError
    number = int(value)
    if not INT_MIN <= number <= INT_MAX:
        raise ValueError
    return number


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError  # noqa: TRY004
    number = float(value.replace(",", "") if isinstance(value, str) else value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _bool(value: object) -> bool:
    match value.strip().lower() if isinstance(value, str) else value:
        case True | "true" | 1:
            return True
        case False | "false" | 0:
            return False
    raise ValueError


def _strings(value: object) -> list[str]:
    match value:
        case list():
            return [text(v) for v in value]
        case dict():
            return [f'"{k}": {text(v)}' for k, v in value.items()]
    return []


#: type -> (its name for clients, how to read it). Anything else in a signature is a start-up error.
READERS: dict[object, tuple[str, Callable[[object], object]]] = {
    str: ("string", text),
    int: ("integer", _int),
    float: ("decimal", _float),
    bool: ("boolean", _bool),
    list[str]: ("list of strings", _strings),
}


@attrs.frozen
class Parameter:
    """One parameter of a route: *kind* is str, int, float, bool, list[str] or Body; no *default* means required."""

    name: str
    kind: Any
    default: Any = attrs.NOTHING
    optional: bool = False

    @property
    def required(self) -> bool:
        """Whether a call without it is refused."""
        return self.default is attrs.NOTHING

    def read(self, body: dict[str, Any]) -> object:
        """The value in *body*, or RouteError that names the parameter and what would be right."""
        if self.kind is Body:
            return Body(body)
        value = body.get(self.name, attrs.NOTHING)
        if value is attrs.NOTHING or (value is None and self._null_is_absent):
            if self.required:
                raise RouteError(f"Missing parameter '{self.name}'.", error_id="missing_parameter")
            return self.default
        label, reader = READERS[self.kind]
        try:
            return reader(value)
        except (ValueError, OverflowError):
            raise RouteError(
                f"Invalid value {text(value)[:100]!r} for parameter '{self.name}': expected {label}.",
                error_id="invalid_parameter",
            ) from None

    @property
    def _null_is_absent(self) -> bool:
        return self.kind is not str or self.optional


def signature(handler: Handler) -> tuple[Parameter, ...]:
    """
    The parameters of *handler*, less the call.

    Raises TypeError for an annotation that cannot be read from JSON, and for a default that is not JSON.
    """
    _, *found = inspect.signature(handler, eval_str=True).parameters.values()
    return tuple(_parameter(p) for p in found)


def _parameter(param: inspect.Parameter) -> Parameter:
    kind, optional = param.annotation, False
    if get_origin(kind) in {Union, types.UnionType}:
        kinds = [k for k in get_args(kind) if k is not type(None)]
        optional = len(kinds) < len(get_args(kind))
        kind = kinds[0] if len(kinds) == 1 else kind
    if kind is not Body and kind not in READERS:
        raise TypeError(f"parameter {param.name!r}: {kind} cannot be read from JSON")
    default = attrs.NOTHING if param.default is param.empty else param.default
    if default is not attrs.NOTHING:
        orjson.dumps(default)
    return Parameter(param.name, kind, default, optional)


def bind(parameters: tuple[Parameter, ...], body: dict[str, Any]) -> dict[str, object]:
    """Read all *parameters* from *body*, left to right; the first failure is raised as RouteError."""
    return {p.name: p.read(body) for p in parameters}

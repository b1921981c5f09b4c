"""From a value on the wire to a typed one, or to an error that says what would be right."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from swarmkernel_models_api import Model
from swarmkernel_t2i_api.errors import ParamError
from swarmkernel_t2i_api.params.images import GivenImage, check_text
from swarmkernel_t2i_api.params.types import Param

Value = str | int | float | bool | list[str] | Model | GivenImage
FindModel = Callable[[str, str], Model | None]

SEPARATOR = "\n|||\n"
_MAX_NUMBER_TEXT = 40
#: The most items of a list; each may cost a search among all models.
_MAX_ITEMS = 64
_MEDIA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=\s]+|[A-Za-z0-9+/=]{10,}")
_BLANK = str.maketrans("", "", " []")


def as_text(value: object) -> str:
    """How a JSON value reads: ``5.0`` is ``5``, True is ``true``, items of a list stand apart by a separator."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, list):
        return SEPARATOR.join(as_text(item) for item in value)
    return "" if value is None else str(value)


def read_value(param: Param, raw: object, find_model: FindModel) -> Value | None:
    """The typed value of *param*, or None if it is the one that means nothing. Raises ParamError."""
    if isinstance(raw, dict):
        raise _error(param, "it is an object")
    if isinstance(raw, list) and any(isinstance(item, dict | list) for item in raw):
        raise _error(param, "its items must be plain values")
    text = as_text(raw)
    if text == param.ignore:
        return None
    try:
        value = _READERS[param.type](param, text, find_model)
    except ValueError as error:
        raise _error(param, str(error)) from None
    return None if _means_nothing(param, value) else value


def _means_nothing(param: Param, value: Value) -> bool:
    """Whether the value equals the ignored one, however it was written (``1.0`` for ``1``)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return param.ignore is not None and value == float(param.ignore)
    return as_text(value) == param.ignore


def match_option(text: str, options: Sequence[str]) -> str | None:
    """The option that *text* means: the same but for case, blanks and brackets, else the shortest that contains it.

    A number means itself alone: 1 is not 10.
    """
    wanted = _folded(text)
    if not wanted:
        return None
    folded = {option: _folded(option.partition("///")[0]) for option in options}
    exact = [option for option, name in folded.items() if name == wanted]
    holding = (
        []
        if wanted.lstrip("-").isdigit()
        else sorted((o for o, name in folded.items() if wanted in name), key=len)
    )
    return next(iter(exact + holding), None)


def _folded(text: str) -> str:
    return text.lower().translate(_BLANK)


def _error(param: Param, reason: str) -> ParamError:
    return ParamError(f"Invalid value for parameter {param.name}: {reason}.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _text(_param: Param, text: str, _find: FindModel) -> str:
    return text.replace("\0", "").replace("\a", "")


def _integer(param: Param, text: str, _find: FindModel) -> int:
    if len(text) > _MAX_NUMBER_TEXT or not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
        raise ValueError(f"{_shown(text)} is not a whole number")
    _check_range(param, number := int(text))
    return number


def _decimal(param: Param, text: str, _find: FindModel) -> float:
    try:
        number = float(text) if len(text) <= _MAX_NUMBER_TEXT and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{_shown(text)} is not a number")
    _check_range(param, number)
    return number


def _check_range(param: Param, number: float) -> None:
    if (param.min or param.max) and not param.min <= number <= param.max:
        raise ValueError(f"{number} is not between {as_text(param.min)} and {as_text(param.max)}")


def _boolean(_param: Param, text: str, _find: FindModel) -> bool:
    match text.strip().lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise ValueError(f"{_shown(text)} is neither true nor false")


def _option(param: Param, text: str, _find: FindModel) -> str:
    options = param.values or ()
    found = match_option(text, options)
    if found is None:
        raise ValueError(f"{_shown(text)} is not one of {', '.join(options[:60]) or '(there are none)'}")
    return found


def _model(param: Param, text: str, find: FindModel) -> Model | str:
    for word in param.values or ():
        if _folded(word) == _folded(text):
            return word
    subtype = param.subtype or "Stable-Diffusion"
    model = find(text, subtype) if text.strip() else None
    if model is None:
        raise ValueError(f"there is no {subtype} model {_shown(text)}")
    if model.problem is not None:
        raise ValueError(f"the model {model.name} cannot be used: {model.problem}")
    return model


def _list(param: Param, text: str, find: FindModel) -> list[str]:
    items = text.split(SEPARATOR if SEPARATOR in text else ",")
    stripped = [item.strip() for item in items if item.strip()]
    if len(stripped) > _MAX_ITEMS:
        raise ValueError(f"it has {len(stripped)} items; at most {_MAX_ITEMS} are allowed")
    if param.min or param.max:
        return [as_text(_decimal(param, item, find)) for item in stripped]
    if param.subtype is not None:
        models = (_model(param, item, find) for item in stripped)
        return [m.name.removesuffix(".safetensors") if isinstance(m, Model) else m for m in models]
    return stripped if param.values is None else [_option(param, item, find) for item in stripped]


def _media(_param: Param, text: str, _find: FindModel) -> str:
    if not _MEDIA.fullmatch(text):
        raise ValueError("it is neither a data URL (data:image/png;base64,…) nor bare base64")
    return text


def _image(_param: Param, text: str, _find: FindModel) -> str:
    """The text of a picture, which is read later, in a thread."""
    return check_text(text)


def _media_list(param: Param, text: str, find: FindModel) -> list[str]:
    items = text.split(SEPARATOR if SEPARATOR in text else "|")
    return [_media(param, item.strip(), find) for item in items if item.strip()]


_READERS: dict[str, Callable[[Param, str, FindModel], Value]] = {
    "text": _text,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "dropdown": _option,
    "model": _model,
    "list": _list,
    "image": _image,
    "audio": _media,
    "video": _media,
    "image_list": _media_list,
    "audio_list": _media_list,
    "video_list": _media_list,
}

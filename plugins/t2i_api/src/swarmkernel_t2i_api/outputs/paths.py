"""Names of outputs: a template filled with the facts of a picture, cleaned until no file system minds.

What comes out never leaves the output folder: its parts hold no separators and no special names, and dots only inside
the folders of users whose roles allow it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from swarmkernel_t2i_api.outputs.clean import UNSAFE, avoid_device, clean_text, cut, tidy_part

#: Bytes of the last part of a path, which leaves room for a number, the extension and a sidecar's suffix.
MAX_LEAF_BYTES = 160
MAX_DEPTH = 16
DEFAULT_FORMAT = "raw/[year]-[month]-[day]/[hour][minute][request_time_inc]-[prompt]-[model]"
#: Where `[number]` goes in a filled path: a character that cleaning takes out of everything else.
NUMBER = "*"

_TAG = re.compile(r"\[([^\[\]]*)\]")
_MODEL_SUFFIX = re.compile(r"\.(safetensors|sft|gguf|ckpt|pt|pth|bin|onnx|engine)$", re.IGNORECASE)
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_KNOWN = frozenset(
    {
        "seed",
        "cfgscale",
        "width",
        "height",
        "steps",
        "date",
        "preptime",
        "generationtime",
        "intermediate",
        "originalprompt",
        "originalnegativeprompt",
        "presetsused",
        "usedwildcards",
        "usedembeddings",
        "promptedloras",
        "parserwarnings",
        "unusedparameters",
        "debugbackend",
    }
)


@attrs.frozen
class PathRules:
    """A user's settings about names, and what their roles allow.

    The settings are the template, how much of a value to take, and whether model folders are left out.
    At most `max_folders` of the template's folders count.

    With `unsafe`, the template's own text keeps `. ~ & @ ; $ ^`, which cleaning takes out otherwise: `v1.5/[prompt]`.
    That is all. No part begins or ends with a dot, so `..` leads nowhere; what would break a URL goes; the last part
    has no dots, so that nothing but the server says what kind of file it is; and values are cleaned as ever.
    """

    format: str = DEFAULT_FORMAT
    max_len_per_part: int = 40
    model_paths_skip_folders: bool = False
    max_folders: int = MAX_DEPTH - 1
    unsafe: bool = False


@attrs.frozen
class PathFacts:
    """What the name of a picture is made from.

    `moment` is the time of the request (local clock) and `request_number` its number within that minute.
    `params` are the parameters by id, typed; `known` the ids of all parameters, so that one that is not set fills in
    as nothing; `extra` the facts of the metadata beside them.
    """

    moment: datetime
    request_number: int = 1
    user_id: str = "local"
    batch_id: int = 0
    params: Mapping[str, Any] = attrs.Factory(dict)
    known: Collection[str] = ()
    model_title: str | None = None
    extra: Mapping[str, Any] = attrs.Factory(dict)


@attrs.define
class RequestCounter:
    """Numbers the requests of a minute from 1 to 998, so that names sort in the order of requests."""

    _minute: datetime | None = None
    _count: int = 0

    def next(self, moment: datetime) -> int:
        """The number of the request that came at `moment`."""
        minute = moment.replace(second=0, microsecond=0)
        self._count = self._count % 998 + 1 if minute == self._minute else 1
        self._minute = minute
        return self._count


def fill_path(rules: PathRules, facts: PathFacts) -> tuple[str, ...]:
    """The parts of the path of a picture without its extension; the last may hold `NUMBER`. Never empty."""
    values = _values(facts)
    # Splitting at a pattern with a group gives text, tag, text, tag, ..., text. Filled values hold no "/",
    # so only what the template itself has makes folders.
    kept = UNSAFE if rules.unsafe else frozenset()
    pieces = (
        _filled(piece, values, rules, facts) if index % 2 else clean_text(piece, kept)
        for index, piece in enumerate(_TAG.split(rules.format))
    )
    *folders, leaf = "".join(pieces).split("/")
    parts = [tidy_part(folder.replace(NUMBER, "1")) for folder in folders]
    most = max(0, min(rules.max_folders, MAX_DEPTH - 1))
    name = cut(leaf.replace(".", "").strip(), MAX_LEAF_BYTES)
    return (*[part for part in parts if part][:most], name or "image")


def names(leaf: str) -> Iterator[str]:
    """The names to try for a file whose template ends in `leaf`, best first."""
    if NUMBER not in leaf:
        yield avoid_device(leaf)
        leaf = f"{leaf}-{NUMBER}"
    for number in itertools.count(1):
        yield avoid_device(leaf.replace(NUMBER, str(number)))


def _filled(tag: str, values: Mapping[str, str], rules: PathRules, facts: PathFacts) -> str:
    name = tag.strip().lower()
    if name == "number":
        return NUMBER
    value = values.get(name, _other(name, facts))
    if value is None:
        return clean_text(f"[{tag}]")
    if rules.model_paths_skip_folders and name in {"model", "loras"}:
        value = "-".join(map(_leaf, _models(facts, name)))
    return clean_text(value[: max(1, rules.max_len_per_part)]).replace("/", "")


def _values(facts: PathFacts) -> dict[str, str]:
    now, params = facts.moment, facts.params
    prompt, negative = (str(params.get(key) or "") for key in ("prompt", "negativeprompt"))
    values = {
        "year": f"{now.year:04}",
        "month_name": _MONTHS[now.month - 1],
        "day_name": _DAYS[now.weekday()],
        "millisecond": f"{now.microsecond // 1000:03}",
        "request_time_inc": f"{facts.request_number:03}",
        "prompt": prompt,
        "negative_prompt": negative,
        "prompthash": _hash(prompt),
        "negativeprompthash": _hash(negative),
        "model": "-".join(_models(facts, "model")),
        "model_title": facts.model_title or "unknown",
        "loras": "-".join(_models(facts, "loras")),
        "batch_id": str(facts.batch_id),
        "user_name": facts.user_id,
    }
    for key in ("month", "day", "hour", "minute", "second"):
        values[key] = f"{getattr(now, key):02}"
    return values


def _other(name: str, facts: PathFacts) -> str | None:
    """The value of any parameter or extra fact, "" if it is known but not set, None if nobody knows it."""
    key = _id(name)
    if not key:
        return None
    if key in facts.params:
        return _text(facts.params[key])
    for extra, value in facts.extra.items():
        if _id(extra) == key:
            return _text(value)
    return "" if key in facts.known or key in _KNOWN else None


def _id(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _models(facts: PathFacts, key: str) -> list[str]:
    found = facts.params.get(key)
    if key == "model" and not found:
        return ["unknown"]
    models = found if isinstance(found, list | tuple) else [found] if found else []
    return [_MODEL_SUFFIX.sub("", str(model)) for model in models]


def _leaf(model: str) -> str:
    return model.replace("\\", "/").rpartition("/")[2]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "-".join(map(_text, value))
    return str(value)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]

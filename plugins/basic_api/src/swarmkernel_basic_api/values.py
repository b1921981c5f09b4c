"""Whatever else is kept for a user: one JSON object per user and name."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from swarmkernel import Collection, Store

Name: TypeAlias = Literal["settings", "param_edits", "starred_models", "preset_links"]


class ShapeError(Exception):
    """A value is not of the shape or size that it must have; the text says which."""


def key_of(user_id: str, name: str) -> str:
    """Make the store's key of what *user_id* owns. A user id has no ``/``, so nobody can reach into another's."""
    if not user_id or "/" in user_id:
        raise ValueError(f"not a user id: {user_id!r}")
    return f"{user_id}/{name}"


async def delete_all(rows: Collection[Any], user_id: str) -> None:
    """Delete what *rows* hold of a user."""
    for row in await rows.items(key_of(user_id, "")):
        await rows.delete(row.key)


@attrs.define
class UserValues:
    """Named JSON objects of users, at most *max_bytes* each."""

    _rows: Collection[dict[str, Any]]
    _max_bytes: int

    @classmethod
    def of(cls, store: Store, max_bytes: int) -> "UserValues":
        """Keep the values in *store*."""
        return cls(store.collection("user_values", dict[str, Any]), max_bytes)

    async def get(self, user_id: str, name: Name) -> dict[str, Any] | None:
        """The value, or None if it was never set."""
        return await self._rows.get(key_of(user_id, name))

    async def put(self, user_id: str, name: Name, value: Mapping[str, Any]) -> None:
        """Replace the value; `ShapeError` if it is too large."""
        if len(json.dumps(value)) > self._max_bytes:
            raise ShapeError(f"This is more than {self._max_bytes} bytes of JSON.")
        await self._rows.put(key_of(user_id, name), dict(value))

    async def update(
        self, user_id: str, name: Name, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        """Change the value atomically; *change* gets an empty object if it was never set."""
        await self._rows.update(key_of(user_id, name), lambda old: change(old or {}))

    async def forget(self, user_id: str) -> None:
        """Delete all values of a user."""
        await delete_all(self._rows, user_id)


def lists_of_texts(value: Mapping[str, Any]) -> Mapping[str, list[str]]:
    """Check that *value* is an object of lists of texts, such as starred models by their kind."""
    for key, texts in value.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ShapeError(f"{key[:100]!r} must be a list of texts.")
    return value


def preset_links(value: Mapping[str, Any]) -> Mapping[str, Mapping[str, list[str]]]:
    """Check that *value* holds lists of preset titles by kind of model and model."""
    for key, models in value.items():
        if not isinstance(models, dict):
            raise ShapeError(f"{key[:100]!r} must be an object of models and their preset titles.")
        lists_of_texts(models)
    return value

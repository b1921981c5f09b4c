"""Presets: parameter values that a user keeps under a title."""

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import attrs

from swarmkernel import Collection, Store
from swarmkernel_basic_api.clean import clean_path
from swarmkernel_basic_api.pictures import PLACEHOLDER
from swarmkernel_basic_api.values import delete_all, key_of

MAX_TITLE = 200
MAX_TEXT = 20_000
MAX_PARAMS = 1000


class PresetError(Exception):
    """A preset cannot be saved; the text goes to the client as ``preset_fail``."""


@attrs.frozen
class Preset:
    """
    One preset.

    *created* and *edited* are nanoseconds since the epoch: the one orders presets, the other tells pictures apart.
    """

    author: str
    title: str
    description: str
    param_map: dict[str, str]
    is_starred: bool
    has_picture: bool
    created: int
    edited: int

    def on_wire(self, preview_image: str) -> dict[str, object]:
        """Describe the preset to clients."""
        return {
            "author": self.author,
            "title": self.title,
            "description": self.description,
            "preview_image": preview_image,
            "is_starred": self.is_starred,
            "param_map": self.param_map,
        }

    @property
    def picture_url(self) -> str:
        """Where its picture is served, in a form that changes whenever the preset does."""
        if not self.has_picture:
            return PLACEHOLDER
        return f"/ViewSpecial/Preset/{quote(self.title)}?editid={self.edited // 1_000_000}"


@attrs.frozen
class Draft:
    """What a client wants to save. *picture* is a JPEG; None keeps what there was, empty means the placeholder."""

    title: str
    description: str
    param_map: Mapping[str, str]
    is_starred: bool = False
    picture: bytes | None = None

    @classmethod
    def read(cls, title: str, description: str, param_map: object, is_starred: bool) -> "Draft":
        """Check what a client sent; `PresetError` says what is wrong with it."""
        title = clean_path(title)
        if not title:
            raise PresetError("A preset needs a title of letters or digits.")
        if len(title) > MAX_TITLE or len(description) > MAX_TEXT:
            raise PresetError(f"A title has at most {MAX_TITLE} characters, a description {MAX_TEXT}.")
        if not isinstance(param_map, dict):
            raise PresetError("A preset needs param_map: an object of parameter ids and their values.")
        if len(param_map) > MAX_PARAMS:
            raise PresetError(f"A preset holds at most {MAX_PARAMS} parameters.")
        texts = {name: _text(value) for name, value in param_map.items()}
        if sum(map(len, texts.values())) > 10 * MAX_TEXT:
            raise PresetError(f"The values of a preset have at most {10 * MAX_TEXT} characters together.")
        return cls(title, description, texts, is_starred)


@attrs.define
class Presets:
    """The presets of all users, each user's under their own keys."""

    _store: Store
    _rows: Collection[Preset]
    _pictures: Collection[bytes]
    _limit: int

    @classmethod
    def of(cls, store: Store, limit: int) -> "Presets":
        """Keep presets in *store*, at most *limit* for each user."""
        rows, pictures = store.collection("presets", Preset), store.collection("preset_pictures", bytes)
        return cls(store, rows, pictures, limit)

    async def of_user(self, user_id: str) -> list[Preset]:
        """The user's presets in the order of their saving."""
        rows = await self._rows.items(key_of(user_id, ""))
        return sorted((row.value for row in rows), key=lambda preset: preset.created)

    async def find(self, user_id: str, title: str) -> Preset | None:
        """The user's preset with that title in any letter case, or None."""
        return await self._rows.get(_key(user_id, title))

    async def picture(self, user_id: str, title: str) -> bytes | None:
        """The preset's JPEG, or None if it has none."""
        return await self._pictures.get(_key(user_id, title))

    async def add(self, user_id: str, draft: Draft) -> None:
        """Save a new preset."""
        async with self._store.transaction():
            await self._refuse_taken(user_id, draft.title)
            await self._refuse_more(user_id)
            await self._save(user_id, draft, None, draft.picture)

    async def edit(self, user_id: str, title: str, draft: Draft) -> None:
        """Save *draft* in the place of the preset called *title*; renamed, it moves to the end."""
        async with self._store.transaction():
            old = await self.find(user_id, title)
            if old is None:
                raise PresetError(f"There is no preset titled {title[:MAX_TITLE]!r}.")
            picture = draft.picture
            if picture is None:
                picture = await self.picture(user_id, title)
            if _key(user_id, title) != _key(user_id, draft.title):
                await self._refuse_taken(user_id, draft.title)
                await self.delete(user_id, title)
                old = None
            await self._save(user_id, draft, old, picture)

    async def duplicate(self, user_id: str, title: str) -> None:
        """Copy a preset to its title with the first free number in brackets, from 2."""
        async with self._store.transaction():
            old = await self.find(user_id, title)
            if old is None:
                raise PresetError(f"There is no preset titled {title[:MAX_TITLE]!r}.")
            await self._refuse_more(user_id)
            number = 2
            while await self.find(user_id, f"{title} ({number})"):
                number += 1
            picture = await self.picture(user_id, title)
            draft = Draft(f"{title} ({number})", old.description, old.param_map, old.is_starred)
            await self._save(user_id, draft, None, picture)

    async def delete(self, user_id: str, title: str) -> bool:
        """Delete a preset; whether there was one."""
        async with self._store.transaction():
            await self._pictures.delete(_key(user_id, title))
            return await self._rows.delete(_key(user_id, title))

    async def forget(self, user_id: str) -> None:
        """Delete all presets of a user."""
        async with self._store.transaction():
            await delete_all(self._pictures, user_id)
            await delete_all(self._rows, user_id)

    async def _save(self, user_id: str, draft: Draft, old: Preset | None, picture: bytes | None) -> None:
        now = time.time_ns()
        key = _key(user_id, draft.title)
        preset = Preset(
            author=user_id,
            title=draft.title,
            description=draft.description,
            param_map=dict(draft.param_map),
            is_starred=draft.is_starred,
            has_picture=bool(picture),
            created=old.created if old else now,
            edited=now,
        )
        await self._rows.put(key, preset)
        if picture:
            await self._pictures.put(key, picture)
        else:
            await self._pictures.delete(key)

    async def _refuse_taken(self, user_id: str, title: str) -> None:
        if await self.find(user_id, title):
            raise PresetError(f"There is a preset titled {title!r} already.")

    async def _refuse_more(self, user_id: str) -> None:
        if len(await self._rows.items(key_of(user_id, ""))) >= self._limit:
            raise PresetError(f"You have {self._limit} presets, and there can be no more; delete some.")


def _key(user_id: str, title: str) -> str:
    return key_of(user_id, title.lower())


def _text(value: Any) -> str:
    """Write a parameter's value as text; a list of plain values as generation reads it, with commas."""
    if isinstance(value, str) or value is None:
        return value or ""
    if isinstance(value, list) and not any(isinstance(part, (list, dict)) for part in value):
        return ",".join(map(_text, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)

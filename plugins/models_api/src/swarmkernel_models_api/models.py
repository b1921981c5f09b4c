"""The service that knows every model of this server."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

from swarmkernel import Collection, Session, Store
from swarmkernel_backend_api import BackendSlot
from swarmkernel_models_api.errors import ModelFileError, ModelLoadError
from swarmkernel_models_api.examine import Found, model_key
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.headers import header_length
from swarmkernel_models_api.loading import Loads
from swarmkernel_models_api.names import Shelf
from swarmkernel_models_api.opening import confined, is_below, open_regular
from swarmkernel_models_api.previews import Preview, picture_beside, shown
from swarmkernel_models_api.reading import Here, Reader
from swarmkernel_models_api.remote import RemoteModels
from swarmkernel_models_api.scan import resolved, scan
from swarmkernel_models_api.shelves import TensorHash, shelves_of, with_hash
from swarmkernel_models_api.types import MAIN, Model, ModelFolder

log = logging.getLogger(__name__)

#: Whether a user (by id) may know of a model.
Rule = Callable[[str, Model], bool]

_SAVED_AT_ONCE: Final = 100
_AT_ONCE: Final = 1000
_HASHED_AT_ONCE: Final = 1 << 20
_EMPTY: Final = Shelf.of({})


@attrs.define(eq=False)
class Models:
    """Every model in the model folders or at a backend elsewhere, by kind; loads them onto backends too.

    Where a method takes a *session*, only what its user may know of exists; None sees everything. Links in the folders
    may also lead below *roots*.
    """

    folders: Sequence[ModelFolder]
    _store: Store
    _remote: RemoteModels = attrs.field(factory=RemoteModels, kw_only=True)
    reader: Reader = attrs.field(factory=Here, kw_only=True)
    _roots: Sequence[Path] = attrs.field(default=(), kw_only=True)
    _shelves: dict[str, Shelf] = attrs.field(factory=dict, init=False)
    _facts: dict[str, Facts] = attrs.field(factory=dict, init=False)
    _rules: builtins.list[Rule] = attrs.field(factory=list, init=False)
    _loads: Loads = attrs.field(factory=Loads, init=False)
    _scanning: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _hashing: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _scans_begun: int = attrs.field(default=0, init=False)
    _scans_done: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._confine()

    def _confine(self) -> None:
        """Read below the folders and roots only, wherever they lead now."""
        self.reader.roots = resolved(self.folders, self._roots)

    def list(self, kind: str = MAIN, session: Session | None = None) -> builtins.list[Model]:
        """The models of a kind, by name."""
        models = self._shelf(kind).models.values()
        return [model for model in models if self._may(session, model)]

    def get(self, name: str, kind: str = MAIN, session: Session | None = None) -> Model | None:
        """The model of that exact name, with or without the ending `.safetensors`."""
        model = self._shelf(kind).get(name)
        return model if model and self._may(session, model) else None

    def find(self, text: str, kind: str = MAIN, session: Session | None = None) -> Model | None:
        """The model that *text* means, however a client spells it; see `Shelf.find`."""
        exact = self.get(text, kind, session)
        return exact or self._shelf(kind).find(text, lambda model: self._may(session, model))

    def default(self, kind: str = MAIN, session: Session | None = None) -> Model | None:
        """The model to use where nobody chose: the first that is usable and of a known class, if possible one that is here."""
        fit = [model for model in self.list(kind, session) if model.is_supported and model.class_id]
        return next((model for model in fit if model.is_local), next(iter(fit), None))

    def restrict(self, rule: Rule) -> None:
        """Hide the models that *rule*, called with a user id, does not allow; all rules must agree."""
        self._rules.append(rule)

    def allowed(self, session: Session, model: Model) -> bool:
        """Whether the session's user may know of the model."""
        return self.visible_to(session.user_id, model)

    def visible_to(self, user_id: str, model: Model) -> bool:
        """Whether a user may know of the model."""
        return all(rule(user_id, model) for rule in self._rules)

    def _shelf(self, kind: str) -> Shelf:
        return self._remote.beside(self._shelves.get(kind, _EMPTY), kind)

    def _may(self, session: Session | None, model: Model) -> bool:
        return session is None or not self._rules or self.allowed(session, model)

    async def load_model(self, slot: BackendSlot, model: Model, *, vae: Model | None = None) -> None:
        """Have a backend load a model; returns at once if it holds it already. See `Loads.load`."""
        if not self.holds(slot, model):
            await asyncio.to_thread(self._check_place, model, vae)
        await self._loads.load(slot, model, vae)

    def _check_place(self, *models: Model | None) -> None:
        """Refuse what has become a link that leads out of the model folders since it was found."""
        found = [folder.path for folder in self.folders]
        for model in filter(None, models):
            if is_below(model.path, found) and not is_below(model.path.resolve(), self.reader.roots):
                raise ModelLoadError(f"{model.name}: This model leads out of the model folders.")

    def holds(self, slot: BackendSlot, model: Model) -> bool:
        """Whether a backend holds the model as it is on disk now, so that `load_model` would return at once."""
        return self._loads.holds(slot, model)

    def preview(self, model: Model) -> Preview | None:
        """The model's picture, or None if it has none that a browser may show. Reads files: call it in a thread."""
        if model.embedded_preview:
            return shown(self.reader.picture(model))
        with confined(self.reader.roots):
            return shown(picture_beside(model))

    async def close(self) -> None:
        """Interrupt the loads that run, and read no more."""
        await self._loads.close()
        await asyncio.to_thread(self.reader.close)

    async def remember(self) -> None:
        """Take over what an earlier run of the server saw, so that the first scan reads only what is new."""
        self._facts = {record.key: record.value for record in await self._saved().items()}

    async def refresh(self) -> None:
        """Scan the folders, in a thread, and have backends elsewhere look. What was changed before the call is seen when this returns.

        Callers that come while a scan runs share the next one.
        """
        wanted = self._scans_begun + 1
        async with self._scanning:
            if self._scans_done < wanted:
                self._scans_begun += 1
                number = self._scans_begun
                await self._rescan()
                self._scans_done = number
        await self._remote.refresh()

    async def _rescan(self) -> None:
        """Look at what is new or changed, and show and save it in steps: the first scan may take minutes."""
        self._confine()
        found = await asyncio.to_thread(scan, self.folders, self._roots)
        new = [item for item in found if not self._is_known(item)]
        keys = {item.key for item in found}
        gone = [key for key in self._facts if key not in keys]
        for start in range(0, len(new), _AT_ONCE):
            facts = await asyncio.to_thread(self._examine, new[start : start + _AT_ONCE])
            self._facts |= facts
            await self._publish(found)
            await self._save(facts)
            log.info("Looked at %d of %d new models", start + len(facts), len(new))
        self._facts = {key: facts for key, facts in self._facts.items() if key in keys}
        await self._publish(found)
        await self._save(gone)

    def _examine(self, found: Iterable[Found]) -> dict[str, Facts]:
        return {item.key: self.reader.examine(item) for item in found}

    def _is_known(self, found: Found) -> bool:
        facts = self._facts.get(found.key)
        return facts is not None and facts.stamp == found.stamp

    async def _publish(self, found: Iterable[Found]) -> None:
        seen = [item for item in found if item.key in self._facts]
        hashes = {record.key: record.value for record in await self._hashes().items()}
        self._shelves = await asyncio.to_thread(shelves_of, seen, self._facts, hashes)

    async def _save(self, keys: Iterable[str]) -> None:
        """Bring the store up to date about some models, in steps that let other writers in."""
        saved, waiting = self._saved(), builtins.list(keys)
        for start in range(0, len(waiting), _SAVED_AT_ONCE):
            async with self._store.transaction():
                for key in waiting[start : start + _SAVED_AT_ONCE]:
                    if key in self._facts:
                        await saved.put(key, self._facts[key])
                    else:
                        await saved.delete(key)
            await asyncio.sleep(0)

    def _saved(self) -> Collection[Facts]:
        return self._store.collection("models_api.facts", Facts)

    def _hashes(self) -> Collection[TensorHash]:
        return self._store.collection("models_api.hashes", TensorHash)

    async def tensor_hash(self, model: Model) -> str | None:
        """`0x` and the SHA-256 of the tensor bytes; None for a folder and for a file that is not here or cannot be used.

        The first time it takes as long as reading the file (in a thread, one file at a time).
        """
        if model.metadata.hash or model.is_folder or not (model.is_local and model.is_supported):
            return model.metadata.hash or None
        key = model_key(model.kind, model.path)
        async with self._hashing:
            known = await self._hashes().get(key)
            if known is None or known.stamp != model.stamp:
                try:
                    known = TensorHash(model.stamp, await asyncio.to_thread(self._hash, model.path))
                except (OSError, ModelFileError) as exc:
                    log.warning("%s cannot be hashed: %s", model.path, exc)
                    return None
                await self._hashes().put(key, known)
                self._publish_hash(model, known.hash)
            return known.hash

    def _hash(self, path: Path) -> str:
        with confined(self.reader.roots):
            return hash_tensors(path)

    def _publish_hash(self, model: Model, digest: str) -> None:
        named = self._shelves.get(model.kind, _EMPTY).models
        if named.get(model.name) == model:
            named[model.name] = with_hash(model, digest)


def hash_tensors(path: Path) -> str:
    """`0x` and the SHA-256 of everything after a safetensors file's header."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        length = header_length(file.read(8), path.stat().st_size)
        file.seek(8 + length)
        while piece := file.read(_HASHED_AT_ONCE):
            digest.update(piece)
    return f"0x{digest.hexdigest()}"

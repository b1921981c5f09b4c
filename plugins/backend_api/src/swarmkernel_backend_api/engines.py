"""Which backends a start adds, and which engine runs where the settings name one."""

import logging
from collections.abc import Iterable, Mapping

import attrs

from swarmkernel_backend_api.records import Records
from swarmkernel_backend_api.types import BackendType, NewBackend

log = logging.getLogger(__name__)


async def to_add(
    records: Records, types: Mapping[str, BackendType], engine: str, proposed: Iterable[NewBackend]
) -> list[NewBackend]:
    """What to add of the backends that packages propose: on a first start all, else that of the *engine* if it is missing.

    Backends of the types that load the same models as the *engine* are neither added nor left running.
    """
    first = not await records.ever()
    if engine not in types:
        if engine:
            log.error("The setting engine names no installed backend type: %r", engine)
        return list(proposed) if first else []
    own = types[engine].compat_classes
    rivals = {name for name, kind in types.items() if name != engine and kind.compat_classes & own}
    missing = not await _switch(records, engine, rivals)
    return [n for n in _instead(proposed, engine, rivals) if first or (missing and n.type_id == engine)]


async def _switch(records: Records, engine: str, rivals: set[str]) -> bool:
    """Switch stored backends of rivals off and one of the engine on; False if it has none."""
    stored = await records.load()
    own = [record for record in stored if record.type_id == engine]
    on = [] if any(record.enabled for record in own) else own[:1]
    off = [record for record in stored if record.type_id in rivals and record.enabled]
    for record in (*on, *off):
        await records.save(attrs.evolve(record, enabled=not record.enabled))
    return bool(own)


def _instead(proposed: Iterable[NewBackend], engine: str, rivals: set[str]) -> list[NewBackend]:
    """What is proposed, the engine's backend in the place of its rivals'."""
    wanted = [new for new in proposed if new.type_id not in rivals]
    if engine in {new.type_id for new in wanted}:
        return wanted
    title = next((new.title for new in proposed if new.type_id in rivals), "")
    return [*wanted, NewBackend(engine, title=title)]

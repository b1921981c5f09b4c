"""What this package keeps running while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from swarmkernel import Plugins, ServerSettings, Services, Stopping
from swarmkernel_backend_api import Backends, Claims
from swarmkernel_models_api import Models
from swarmkernel_t2i_api.catalogue import Refresher
from swarmkernel_t2i_api.jobs.counters import Counters
from swarmkernel_t2i_api.jobs.events import Events
from swarmkernel_t2i_api.jobs.jobs import Jobs
from swarmkernel_t2i_api.jobs.pictures import Pictures
from swarmkernel_t2i_api.limits import UserLimits
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.request import RequestReader
from swarmkernel_t2i_api.params.types import Param
from swarmkernel_t2i_api.settings import T2ISettings


def registry(services: Services) -> ParamRegistry:
    """Every parameter that plugins declare, and the options that follow the backends."""
    backends = services.get(Backends)

    def types() -> Iterable[tuple[str, str]]:
        return [("Any", "Any"), *((kind.id, kind.name) for kind in backends.types.values())]

    def ids() -> Iterable[tuple[str, str]]:
        return [(str(slot.id), f"{slot.id}: {slot.title or slot.type.name}") for slot in backends]

    def added(param: str) -> Iterable[str]:
        return [value for slot in backends if slot.enabled for value in slot.options.get(param, ())]

    params = services.get(Plugins).collect("t2i_params", key=_param_id)
    return ParamRegistry(params, {"internalbackendtype": types, "exactbackendid": ids}, added)


def _param_id(param: Param) -> str:
    return param.id


@asynccontextmanager
async def life(services: Services) -> AsyncIterator[None]:
    """Offer the services, and run the queue."""
    settings, models, params = services.get(T2ISettings), services.get(Models), registry(services)
    root = services.get(ServerSettings).data_dir / settings.output_folder
    outputs = Outputs(root, settings.append_user, settings.min_free_mb * 2**20)
    await outputs.start()
    events, limits = Events(), UserLimits(services, settings)
    jobs = Jobs(services.get(Backends), models, events, Pictures(params, outputs, limits), limits)
    services.add(ParamRegistry, params)
    services.add(RequestReader, RequestReader(params, models, services, settings))
    services.add(Refresher, Refresher(models))
    services.add(Outputs, outputs)
    services.add(Events, events)
    services.add(Jobs, jobs)
    with events.listen(Counters(services.get(Claims))):
        tasks = [asyncio.create_task(jobs.run()), asyncio.create_task(_drain(jobs, services.get(Stopping)))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await jobs.close()


async def _drain(jobs: Jobs, stopping: Stopping) -> None:
    await stopping.wait()
    jobs.begin_nothing_new()

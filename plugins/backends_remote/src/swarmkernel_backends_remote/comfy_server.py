"""The routes of a ComfyUI server, as calls. Another generation of its API would be another class like this one."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from swarmkernel_backends_remote.comfy_catalogue import CLASSES, Catalogue
from swarmkernel_backends_remote.comfy_events import failure, refusal
from swarmkernel_backends_remote.comfy_graph import SAVE
from swarmkernel_backends_remote.errors import PeerError
from swarmkernel_backends_remote.web import Web

if TYPE_CHECKING:
    from swarmkernel_backends_remote.sockets import ClientConnection

_HELLO: Final = '{"type":"feature_flags","data":{"supports_preview_metadata":true}}'
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_QUEUES: Final = {"queue_running": "running", "queue_pending": "pending"}
#: How often, and how long apart, a job is asked for that should end now.
_ENDING: Final = 20
_ENDING_SECONDS: Final = 0.25
_CLASS_MIB: Final = 8
_EVENT_MIB: Final = 8


@attrs.define(eq=False)
class ComfyServer:
    """One server, as one of its clients."""

    web: Web
    client_id: str = attrs.field(factory=lambda: uuid.uuid4().hex, init=False)

    async def catalogue(self) -> Catalogue:
        """What the server has."""
        said = {
            name: (await self.web.object("GET", f"/object_info/{name}", most_mib=_CLASS_MIB)).get(name)
            for name in CLASSES
        }
        return await asyncio.to_thread(Catalogue.of, said)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """The socket on which the server tells of this client's jobs."""
        async with self.web.socket(f"/ws?clientId={self.client_id}", _EVENT_MIB) as socket:
            await socket.send(_HELLO)
            yield socket

    async def upload(self, data: bytes) -> str:
        """Bring a picture over, and give the name by which graphs load it."""
        name = f"swarmkernel_{hashlib.sha256(data).hexdigest()[:32]}.png"
        answer = await self.web.object(
            "POST",
            "/upload/image",
            files={"image": (name, data, "application/octet-stream")},
            data={"type": "temp", "overwrite": "true"},
        )
        stored, folder = answer.get("name"), answer.get("subfolder")
        if not isinstance(stored, str) or not isinstance(folder, str) or answer.get("type") != "temp":
            raise PeerError(f"{self.web.name} did not take a picture.")
        return f"{folder}/{stored} [temp]" if folder else f"{stored} [temp]"

    async def submit(self, graph: Mapping[str, Any], prompt_id: str) -> str:
        """Queue a graph, and give its id: the one wanted, unless the server is too old for that."""
        body = {"prompt": graph, "client_id": self.client_id, "prompt_id": prompt_id}
        answer = await self.web.object("POST", "/prompt", body=body, may_refuse=True)
        found = answer.get("prompt_id")
        if "error" in answer or not isinstance(found, str) or not _ID.fullmatch(found):
            raise refusal(answer)
        return found

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """What became of a job, once it has ended."""
        entry = (await self.web.object("GET", f"/history/{prompt_id}")).get(prompt_id)
        return entry if isinstance(entry, dict) else None

    async def place(self, prompt_id: str) -> Literal["running", "pending"] | None:
        """Where in the queue a job is."""
        queues = await self.web.object("GET", "/queue")
        for name, place in _QUEUES.items():
            entries = queues.get(name)
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, list) and len(entry) > 1 and entry[1] == prompt_id:
                    return place  # type: ignore[return-value]
        return None

    async def view(self, image: Mapping[str, str]) -> bytes:
        """The file of a picture."""
        return await self.web.file("GET", "/view", params=image)

    async def interrupt(self, prompt_id: str, *, known: bool = True) -> None:
        """End a job, and nothing else, wherever it is; one that is not `known` may still be on its way there.

        Servers of before 2025 interrupt whatever runs.
        """
        for _ in range(_ENDING):
            await self._tell("/queue", {"delete": [prompt_id]})
            place = await self.place(prompt_id)
            if place is None and known:
                break
            known = known or place is not None
            if place == "running":
                with suppress(PeerError):  # it may have ended this moment
                    await self._tell("/interrupt", {"prompt_id": prompt_id})
            await asyncio.sleep(_ENDING_SECONDS)

    async def forget(self, prompt_id: str) -> None:
        """Take a job that has ended out of the history."""
        await self._tell("/history", {"delete": [prompt_id]})

    async def free(self, *, system_ram: bool) -> None:
        """Have the models unloaded; with `system_ram` whatever else is kept too."""
        await self._tell("/free", {"unload_models": True, "free_memory": system_ram})

    async def _tell(self, path: str, body: Mapping[str, Any]) -> None:
        """POST to a route that answers nothing of interest."""
        await self.web.file("POST", path, body=body)


def image_of(outputs: object) -> dict[str, str] | None:
    """The picture among what a job's nodes gave."""
    saved = outputs.get(SAVE) if isinstance(outputs, dict) else None
    images = saved.get("images") if isinstance(saved, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    if not isinstance(first, dict):
        return None
    found = {key: first.get(key, "") for key in ("filename", "subfolder", "type")}
    good = all(isinstance(value, str) and len(value) <= 500 for value in found.values())
    if not good or not found["filename"]:
        return None
    return {key: value for key, value in found.items() if value}


def check_history(entry: Mapping[str, Any]) -> None:
    """Raise what a job failed with, as the history has it."""
    status = entry.get("status")
    if not isinstance(status, dict) or status.get("status_str") != "error":
        return
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        match message:
            case ["execution_error", dict() as data]:
                raise failure(data)
            case ["execution_interrupted", *_]:
                raise PeerError("The job was interrupted in ComfyUI.", "remote_interrupted")
    raise PeerError("ComfyUI failed and does not say why.")

"""A ComfyUI server that paints nothing: it speaks the documented protocol, and misbehaves as prompts say."""

import asyncio
import contextlib
import io
import json
import re
import socket
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

import attrs
from comfy_nodes import nodes
from hypercorn.asyncio import serve
from hypercorn.config import Config
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 64), red: int = 9) -> bytes:
    """A real picture."""
    stream = io.BytesIO()
    Image.new("RGB", size, (red, 20, 30)).save(stream, kind)
    return stream.getvalue()


@attrs.define(eq=False)
class FakeComfy:
    """The server. It runs in a thread, one job at a time. `asked` is what it was asked with, by path; `instead` are other
    applications for the beginnings of paths.

    An `old` server is one of before 2024: it gives jobs ids of its own, interrupts whatever runs, and knows neither feature
    flags nor some events. It is `deaf` to so many requests to take a job from the queue.
    """

    port: int
    info: dict[str, Any] = attrs.field(factory=nodes)
    asked: list[tuple[str, Any]] = attrs.field(factory=list)
    connections: int = 0
    ran: list[str] = attrs.field(factory=list)
    old: bool = False
    deaf: int = 0
    instead: dict[str, Any] = attrs.field(factory=dict)
    _queue: list[tuple[str, dict, str]] = attrs.field(factory=list)
    _running: tuple[str, dict, str] | None = None
    _stop_ids: set[str] = attrs.field(factory=set)
    history: dict[str, Any] = attrs.field(factory=dict)
    _files: dict[str, bytes] = attrs.field(factory=dict)
    _sockets: dict[str, WebSocket] = attrs.field(factory=dict)
    app: Any = None
    _loop: Any = None
    _ended: Any = None
    _thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, path: str) -> list[Any]:
        """What a path was asked with."""
        return [body for found, body in self.asked if found == path]

    def graphs(self) -> list[dict]:
        """The graphs that came."""
        return [body["prompt"] for body in self.bodies("/prompt")]

    def start(self) -> None:
        """Serve, until `stop`."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """Break all connections and be gone, with all that was queued."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self._queue, self._running, self._sockets = [], None, {}
        self.history.clear()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        config = Config()
        config.bind, config.errorlog, config.graceful_timeout = [f"127.0.0.1:{self.port}"], None, 0.1
        config.shutdown_timeout = 0.1
        routes = [
            Route("/object_info/{name}", self._object_info),
            Route("/prompt", self._prompt, methods=["POST"]),
            Route("/queue", self._get_queue),
            Route("/queue", self._post_queue, methods=["POST"]),
            Route("/history/{id}", self._get_history),
            Route("/history", self._post_history, methods=["POST"]),
            Route("/interrupt", self._interrupt, methods=["POST"]),
            Route("/free", self._noted, methods=["POST"]),
            Route("/upload/image", self._upload, methods=["POST"]),
            Route("/view", self._view),
            WebSocketRoute("/ws", self._ws),
        ]
        self.app = Starlette(routes=routes)
        worker = asyncio.create_task(self._work())
        serving = asyncio.create_task(
            serve(self._instead(self.app), config, shutdown_trigger=self._ended.wait)
        )
        while not self._answers():
            await asyncio.sleep(0.02)
        ready.set()
        await self._ended.wait()
        worker.cancel()
        for ws in list(self._sockets.values()):
            with contextlib.suppress(Exception):
                await ws.close(1011)
        await asyncio.wait([serving], timeout=3)
        serving.cancel()

    def _instead(self, app: Any) -> Any:
        """The application, or for the beginning of a path what `instead` has for it."""

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            path = scope.get("path", "")
            found = [other for start, other in self.instead.items() if path.startswith(start)]
            await (found[0] if found else app)(scope, receive, send)

        return answer

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def _object_info(self, request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({name: self.info[name]} if name in self.info else {})

    async def _body(self, request: Request) -> Any:
        body = json.loads(await request.body())
        self.asked.append((request.url.path, body))
        return body

    async def _noted(self, request: Request) -> Response:
        await self._body(request)
        return Response()

    async def _prompt(self, request: Request) -> Response:
        body = await self._body(request)
        text = body["prompt"]["positive"]["inputs"]["text"]
        if "node error" in text:
            error = {
                "type": "prompt_outputs_failed_validation",
                "message": "Prompt outputs failed validation",
            }
            detail = {
                "type": "value_not_in_list",
                "message": "Value not in list",
                "details": "ckpt_name: 'x' not in []",
                "extra_info": {"input_name": "ckpt_name", "received_value": "x"},
            }
            node = {"errors": [detail], "dependent_outputs": ["save"], "class_type": "CheckpointLoaderSimple"}
            return JSONResponse({"error": error, "node_errors": {"checkpoint": node}}, 400)
        number = uuid.uuid4().hex if self.old else body["prompt_id"]
        self._queue.append((number, body["prompt"], body["client_id"]))
        await self._tell_status()
        return JSONResponse({"prompt_id": number, "number": 1, "node_errors": {}})

    def _entries(self, jobs: list) -> list:
        return [[1, number, graph, {"client_id": client}, ["save"]] for number, graph, client in jobs]

    async def _get_queue(self, _request: Request) -> Response:
        running = [self._running] if self._running else []
        return JSONResponse(
            {"queue_running": self._entries(running), "queue_pending": self._entries(self._queue)}
        )

    async def _post_queue(self, request: Request) -> Response:
        body = await self._body(request)
        self.deaf -= 1
        if self.deaf < 0:
            self._queue = [job for job in self._queue if job[0] not in body["delete"]]
        return Response()

    async def _get_history(self, request: Request) -> Response:
        number = request.path_params["id"]
        return JSONResponse({number: self.history[number]} if number in self.history else {})

    async def _post_history(self, request: Request) -> Response:
        for number in (await self._body(request))["delete"]:
            self.history.pop(number, None)
        return Response()

    async def _interrupt(self, request: Request) -> Response:
        wanted = (await self._body(request)).get("prompt_id")
        if self._running and (self.old or wanted in {None, self._running[0]}):
            self._stop_ids.add(self._running[0])
        return Response()

    async def _upload(self, request: Request) -> Response:
        data = await request.body()
        self.asked.append(("/upload/image", data))
        name = re.search(rb'filename="([^"]+)"', data)[1].decode()
        return JSONResponse({"name": name, "subfolder": "", "type": "temp"})

    async def _view(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.asked.append(("/view", query))
        known = query.get("type", "output") == "temp" and query["filename"] in self._files
        return (
            Response(self._files[query["filename"]], media_type="image/png") if known else Response("", 404)
        )

    async def _ws(self, ws: WebSocket) -> None:
        await ws.accept()
        client = ws.query_params["clientId"]
        self._sockets[client] = ws
        self.connections += 1
        await self._send(client, message("status", status=self._status(), sid=client))
        if self._running and self._running[2] == client:
            await self._send(client, message("executing", node="sampler"))
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                self.asked.append(("/ws", await ws.receive_json()))
                if not self.old:
                    flags = {"supports_preview_metadata": True, "max_upload_size": 104857600}
                    await self._send(client, message("feature_flags", **flags))

    def _status(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self._queue) + bool(self._running)}}

    async def _tell_status(self) -> None:
        await self._tell_all(message("status", status=self._status()))

    async def _tell_all(self, said: str) -> None:
        for client in list(self._sockets):
            await self._send(client, said)

    async def _tell(self, kind: str, **data: Any) -> None:
        number, _, client = self._running
        await self._send(client, message(kind, prompt_id=number, **data))

    async def _send(self, client: str, said: str | bytes) -> None:
        ws = self._sockets.get(client)
        if ws is not None:
            with contextlib.suppress(Exception):
                await (ws.send_bytes if isinstance(said, bytes) else ws.send_text)(said)

    async def _work(self) -> None:
        while True:
            if not self._queue:
                await asyncio.sleep(0.01)
                continue
            self._running = self._queue.pop(0)
            number, graph, client = self._running
            self.ran.append(graph["positive"]["inputs"]["text"])
            status, messages, outputs = "success", [["execution_start", {"prompt_id": number}]], {}
            try:
                outputs = await self._run(number, graph)
            except RuntimeError as error:
                status = "error"
                messages.append(await self._failed(str(error)))
            self.history[number] = {
                "prompt": self._entries([(number, graph, client)])[0],
                "outputs": outputs,
                "status": {"status_str": status, "completed": status == "success", "messages": messages},
                "meta": {"save": {"node_id": "save", "display_node": "save"}},
            }
            await self._tell("executing", node=None)
            self._running = None
            await self._tell_status()

    async def _failed(self, why: str) -> list:
        """Tell how a job failed: everybody if it was interrupted, with a trace if not. Its line in the history."""
        data = {"prompt_id": self._running[0], "node_id": "sampler", "node_type": "KSampler", "executed": []}
        if why == "interrupted":
            await self._tell_all(message("execution_interrupted", **data))
            return ["execution_interrupted", data]
        data |= {"exception_message": why, "exception_type": "RuntimeError", "traceback": ["line\n"]}
        data |= {"current_inputs": {"seed": [5]}, "current_outputs": ["checkpoint"]}
        await self._send(self._running[2], message("execution_error", **data))
        return ["execution_error", data]

    async def _run(self, number: str, graph: dict) -> dict:
        text = graph["positive"]["inputs"]["text"]
        client = self._running[2]
        await self._tell("execution_start", timestamp=1)
        await self._tell("execution_cached", nodes=["checkpoint"], timestamp=1)
        if "execution error" in text:
            raise RuntimeError("the canvas is torn")
        if "cached" not in text:
            await self._sample(text, client, graph)
        if "hang" in text:
            while number not in self._stop_ids:
                if "monitor" in text:
                    await self._tell_all(message("crystools.monitor", cpu_utilization=15.5, gpus=[]))
                    await self._tell_status()
                await asyncio.sleep(0.02)
            raise RuntimeError("interrupted")
        if "drop" in text:
            await self._sockets[client].close(1011)
            await asyncio.sleep(0.1)
        sizes = graph.get("empty", graph.get("init_scale"))["inputs"]
        size = (3000, 3000) if "huge" in text else (sizes["width"], sizes["height"])
        data = b"<svg/>" if "not a picture" in text else picture("PNG", size, _red(graph))
        name = f"{number}.png"
        self._files[name] = data
        images = {"images": [{"filename": name, "subfolder": "", "type": "temp"}]}
        await self._tell("executed", node="save", display_node="save", output=images)
        if not self.old:
            await self._tell("execution_success", timestamp=2)
        await asyncio.sleep(0.05)
        return {} if "nothing" in text else {"save": images}

    async def _sample(self, text: str, client: str, graph: dict) -> None:
        steps = graph["sampler"]["inputs"]["steps"]
        await self._tell("executing", node="sampler", display_node="sampler")
        for step in range(1, steps + 1):
            if self._running[0] in self._stop_ids:
                raise RuntimeError("interrupted")
            for said in _previews(text, self._running[0], old=self.old):
                await self._send(client, said)
            if "state only" not in text:
                await self._tell("progress", value=step, max=steps, node="sampler")
            if not self.old:
                await self._tell("progress_state", nodes=_states(self._running[0], step, steps))
            await asyncio.sleep(0.1 if "slow" in text else 0.01)


def _red(graph: dict) -> int:
    """A colour that follows from the seed and from the files that are loaded."""
    files = [node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage"]
    return (4 + graph["sampler"]["inputs"]["seed"] + zlib.crc32("".join(files).encode())) % 256


def message(kind: str, **data: Any) -> str:
    """An event."""
    return json.dumps({"type": kind, "data": data})


def _states(number: str, step: int, steps: int) -> dict[str, Any]:
    """The nodes of a `progress_state`: all that began."""

    def state(node: str, value: int, most: int) -> dict[str, Any]:
        names = {"node_id": node, "display_node_id": node, "parent_node_id": None, "real_node_id": node}
        how = "finished" if value == most else "running"
        return {"value": value, "max": most, "state": how, "prompt_id": number, **names}

    return {"checkpoint": state("checkpoint", 1, 1), "sampler": state("sampler", step, steps)}


def _previews(text: str, number: str, *, old: bool) -> Iterator[bytes | str]:
    if "garbage" in text:
        other = message("execution_error", prompt_id="other")
        yield from ("{{{", "[]", "null", '{"type":"crystools.monitor","data":{"x":1}}', '{"type":4}', other)
        yield from (b"", b"\0\0\0\1", b"\0\0\0\x09what", struct.pack(">II", 4, 2**31) + b"{}")
        yield struct.pack(">II", 1, 1) + b"no picture"
        yield struct.pack(">II", 1, 2) + picture("PNG")[:40]
        yield struct.pack(">II", 4, 4) + b"true" + picture("JPEG")
        return
    yield struct.pack(">II", 3, 7) + b"sampler" + b"text"
    if old:
        yield struct.pack(">II", 1, 1) + picture("JPEG")
        return
    names = {"node_id": "sampler", "display_node_id": "sampler", "real_node_id": "sampler"}
    kind = "PNG" if "png" in text else "JPEG"
    said = {**names, "prompt_id": number, "parent_node_id": None, "image_type": f"image/{kind.lower()}"}
    metadata = json.dumps(said).encode()
    yield struct.pack(">II", 4, len(metadata)) + metadata + picture(kind)


@contextlib.contextmanager
def painting() -> Iterator[FakeComfy]:
    """A server, while inside."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    comfy = FakeComfy(port)
    comfy.start()
    try:
        yield comfy
    finally:
        comfy.stop()

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
from collections.abc import Iterator
from typing import Any

import attrs
from hypercorn.asyncio import serve
from hypercorn.config import Config
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m"]
SCHEDULERS = ["normal", "karras"]
CHECKPOINTS = ["alpha.safetensors", "folder\\beta.safetensors"]


def _info(outputs: int, optional: dict | None = None, **required: Any) -> dict[str, Any]:
    return {
        "input": {"required": required, "optional": optional or {}},
        "output": ["X"] * outputs,
        "name": "node",
    }


def nodes() -> dict[str, Any]:
    """Its `object_info`, with lists in the old form and in the new one."""
    number, link = ["INT", {"default": 1}], ["LINK"]
    combo = lambda *options: ["COMBO", {"options": list(options)}]  # noqa: E731
    size = {"width": number, "height": number}
    return {
        "CheckpointLoaderSimple": _info(3, ckpt_name=[CHECKPOINTS, {"tooltip": "x"}]),
        "LoraLoader": _info(
            2,
            model=link,
            clip=link,
            lora_name=[["style.safetensors"]],
            strength_model=link,
            strength_clip=link,
        ),
        "CLIPSetLastLayer": _info(1, clip=link, stop_at_clip_layer=number),
        "VAELoader": _info(1, vae_name=[["good.safetensors"]]),
        "EmptyLatentImage": _info(1, **size, batch_size=number),
        "LoadImage": _info(2, image=[["a.png"], {"image_upload": True}]),
        "ImageScale": _info(
            1,
            image=link,
            upscale_method=[["nearest-exact", "bilinear", "lanczos"]],
            **size,
            crop=combo("disabled", "center"),
        ),
        "VAEEncode": _info(1, pixels=link, vae=link),
        "ImageBlur": _info(1, image=link, blur_radius=number, sigma=number),
        "ImageToMask": _info(1, image=link, channel=combo("red", "green", "blue", "alpha")),
        "SetLatentNoiseMask": _info(1, samples=link, mask=link),
        "CLIPTextEncode": _info(1, text=["STRING", {"multiline": True}], clip=link),
        "KSampler": _info(
            1,
            model=link,
            seed=number,
            steps=number,
            cfg=link,
            sampler_name=[SAMPLERS],
            scheduler=combo(*SCHEDULERS),
            positive=link,
            negative=link,
            latent_image=link,
            denoise=link,
        ),
        "VAEDecode": _info(1, samples=link, vae=link),
        "ImageCompositeMasked": _info(
            1, {"mask": link}, destination=link, source=link, x=number, y=number, resize_source=["BOOLEAN"]
        ),
        "PreviewImage": _info(0, images=link),
    }


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 64), red: int = 9) -> bytes:
    """A real picture."""
    stream = io.BytesIO()
    Image.new("RGB", size, (red, 20, 30)).save(stream, kind)
    return stream.getvalue()


@attrs.define(eq=False)
class FakeComfy:
    """The server. It runs in a thread, one job at a time. `asked` is what it was asked with, by path; `instead` are other
    applications for the beginnings of paths, and an `old` server gives its jobs ids of its own.
    """

    port: int
    info: dict[str, Any] = attrs.field(factory=nodes)
    asked: list[tuple[str, Any]] = attrs.field(factory=list)
    connections: int = 0
    ran: list[str] = attrs.field(factory=list)
    old: bool = False
    instead: dict[str, Any] = attrs.field(factory=dict)
    _queue: list[tuple[str, dict, str]] = attrs.field(factory=list)
    _running: tuple[str, dict, str] | None = None
    _stop_ids: set[str] = attrs.field(factory=set)
    history: dict[str, Any] = attrs.field(factory=dict)
    _files: dict[str, bytes] = attrs.field(factory=dict)
    _sockets: dict[str, WebSocket] = attrs.field(factory=dict)
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
        worker = asyncio.create_task(self._work())
        serving = asyncio.create_task(
            serve(self._instead(Starlette(routes=routes)), config, shutdown_trigger=self._ended.wait)
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
        if self._running and wanted in {None, self._running[0]}:
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
        return Response(self._files[query["filename"]], media_type="image/png")

    async def _ws(self, ws: WebSocket) -> None:
        await ws.accept()
        client = ws.query_params["clientId"]
        self._sockets[client] = ws
        self.connections += 1
        await ws.send_json({"type": "status", "data": {"status": {"exec_info": {}}, "sid": client}})
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                self.asked.append(("/ws", await ws.receive_json()))

    async def _tell(self, kind: str, **data: Any) -> None:
        number, _, client = self._running
        await self._send(client, json.dumps({"type": kind, "data": {"prompt_id": number, **data}}))

    async def _send(self, client: str, message: str | bytes) -> None:
        ws = self._sockets.get(client)
        if ws is not None:
            with contextlib.suppress(Exception):
                await (ws.send_bytes if isinstance(message, bytes) else ws.send_text)(message)

    async def _work(self) -> None:
        while True:
            if not self._queue:
                await asyncio.sleep(0.01)
                continue
            self._running = self._queue.pop(0)
            number, graph, _ = self._running
            self.ran.append(graph["positive"]["inputs"]["text"])
            status, messages, outputs = "success", [], {}
            try:
                outputs = await self._run(number, graph)
            except RuntimeError as error:
                kind = "execution_interrupted" if str(error) == "interrupted" else "execution_error"
                data = {
                    "prompt_id": number,
                    "node_id": "sampler",
                    "node_type": "KSampler",
                    "exception_message": str(error),
                    "exception_type": "RuntimeError",
                }
                status, messages = "error", [[kind, data]]
                await self._tell(kind, **data)
            entry = {"status_str": status, "completed": status == "success", "messages": messages}
            self.history[number] = {"outputs": outputs, "status": entry}
            await self._tell("executing", node=None)
            self._running = None

    async def _run(self, number: str, graph: dict) -> dict:
        text = graph["positive"]["inputs"]["text"]
        client = self._running[2]
        await self._tell("execution_start", timestamp=1)
        await self._tell("execution_cached", nodes=["checkpoint"])
        if "execution error" in text:
            raise RuntimeError("the canvas is torn")
        if "cached" not in text:
            await self._sample(text, client, graph)
        if "hang" in text:
            while number not in self._stop_ids:
                await asyncio.sleep(0.02)
            raise RuntimeError("interrupted")
        if "drop" in text:
            await self._sockets[client].close(1011)
            await asyncio.sleep(0.1)
        sizes = graph.get("empty", graph.get("init_scale"))["inputs"]
        size = (3000, 3000) if "huge" in text else (sizes["width"], sizes["height"])
        data = (
            b"<svg/>"
            if "not a picture" in text
            else picture("PNG", size, (4 + graph["sampler"]["inputs"]["seed"]) % 256)
        )
        name = f"{number}.png"
        self._files[name] = data
        images = {"images": [{"filename": name, "subfolder": "", "type": "temp"}]}
        await self._tell("executed", node="save", output=images)
        await self._tell("execution_success", timestamp=2)
        await asyncio.sleep(0.05)
        return {} if "nothing" in text else {"save": images}

    async def _sample(self, text: str, client: str, graph: dict) -> None:
        steps = graph["sampler"]["inputs"]["steps"]
        await self._tell("executing", node="sampler")
        for step in range(1, steps + 1):
            if self._running[0] in self._stop_ids:
                raise RuntimeError("interrupted")
            for message in _previews(text, self._running[0]):
                await self._send(client, message)
            if "state only" not in text:
                await self._tell("progress", value=step, max=steps, node="sampler")
            state = {"value": step, "max": steps, "state": "running", "node_id": "sampler"}
            await self._tell("progress_state", nodes={"sampler": state})
            await asyncio.sleep(0.1 if "slow" in text else 0.01)


def _previews(text: str, number: str) -> Iterator[bytes | str]:
    if "garbage" in text:
        other = json.dumps({"type": "execution_error", "data": {"prompt_id": "other"}})
        yield from ("{{{", "[]", "null", '{"type":"crystools.monitor","data":{"x":1}}', '{"type":4}', other)
        yield from (b"", b"\0\0\0\1", b"\0\0\0\x09what", struct.pack(">II", 4, 2**31) + b"{}")
        yield struct.pack(">II", 1, 1) + b"no picture"
        yield struct.pack(">II", 1, 2) + picture("PNG")[:40]
        yield struct.pack(">II", 4, 4) + b"true" + picture("JPEG")
        return
    yield struct.pack(">II", 3, 7) + b"sampler" + b"text"
    if "kind 4" in text:
        metadata = json.dumps(
            {"image_type": "image/jpeg", "prompt_id": number, "node_id": "sampler"}
        ).encode()
        yield struct.pack(">II", 4, len(metadata)) + metadata + picture("JPEG")
    else:
        yield struct.pack(">II", 1, 1) + picture("JPEG")


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

"""A server that speaks the wire by hand, so that it can say anything."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
from PIL import Image

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BACKEND = {
    "id": 3,
    "type": "canvas",
    "title": "Their canvas",
    "status": "running",
    "features": ["brush"],
    "can_load_models": True,
    "max_usages": 2,
    "current_model": "alpha.safetensors",
}
MODEL = {"name": "alpha.safetensors", "title": "Alpha", "architecture": "stable-diffusion-v1"}


def png(width: int = 8, height: int = 8, red: int = 1) -> bytes:
    """A real picture."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (red, 2, 3)).save(stream, "PNG")
    return stream.getvalue()


def url(data: bytes, kind: str = "image/png") -> str:
    """Bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def honest() -> dict[str, Any]:
    """What a server in order answers, by route; frames for a WebSocket route."""
    return {
        "GetNewSession": {"session_id": "s" * 40, "server_id": "theirs"},
        "ListBackends": {"3": BACKEND},
        "ListModels": lambda body: {"files": [MODEL] if body["subtype"] == "Stable-Diffusion" else []},
        "ListT2IParams": {"list": [{"id": "sampler", "values": ["euler", "uni_pc"]}, {"id": "steps"}]},
        "TriggerRefresh": {"list": []},
        "SelectModel": {"success": True},
        "InterruptAll": {"success": True},
        "FreeBackendMemory": {"result": True, "count": 1},
        "GenerateText2Image": {"images": [url(png())]},
        "GenerateText2ImageWS": [{"image": url(png()), "batch_index": "0"}, {"discard_indices": []}],
    }


@attrs.define(eq=False)
class Liar:
    """Answers as `says` tells: JSON, bytes that are a whole HTTP answer, or a function of the body that gives either."""

    says: dict[str, Any] = attrs.field(factory=honest)
    asked: list[tuple[str, dict]] = attrs.field(factory=list)
    heads: list[str] = attrs.field(factory=list)
    address: str = ""
    serving: set[asyncio.Task] = attrs.field(factory=set)

    def bodies(self, route: str) -> list[dict]:
        """What a route was asked with."""
        return [body for name, body in self.asked if name == route]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        self.serving.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            self.serving.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        route = head.split()[1].rpartition("/")[2]
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if "upgrade" in headers:
            key = head.partition("Sec-WebSocket-Key: ")[2].split()[0]
            await self._upgraded(reader, writer, route, key)
            return False
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        said = self._said(route, body)
        if hasattr(said, "__aiter__"):
            async for block in said:
                writer.write(block)
                await writer.drain()
            return False
        if not isinstance(said, bytes):
            said = http(json.dumps(said).encode())
        writer.write(said)
        await writer.drain()
        return True

    def _said(self, route: str, body: dict) -> Any:
        self.asked.append((route, body))
        said = self.says[route]
        return said(body) if isinstance(said, Callable) else said

    async def _upgraded(self, reader, writer, route: str, key: str) -> None:
        if isinstance(self.says[route], bytes):
            writer.write(self.says[route])
            return
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        body = json.loads(await read_frame(reader))
        for frame in self._said(route, body):
            if frame is None:
                await reader.read()
            data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
            writer.write(frame_of(data))
            await writer.drain()
        writer.write(b"\x88\x02\x03\xe8")
        await writer.drain()
        await reader.read(100)


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def frame_of(data: bytes) -> bytes:
    """A text frame of a server."""
    size = len(data)
    length = bytes([size]) if size < 126 else bytes([127]) + size.to_bytes(8, "big")
    return b"\x81" + length + data


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The payload of a frame of a client, which is masked."""
    size = (await reader.readexactly(2))[1] & 127
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


@contextlib.asynccontextmanager
async def lying(tls: ssl.SSLContext | None = None) -> AsyncIterator[Liar]:
    """A running liar."""
    liar = Liar()
    server = await asyncio.start_server(liar, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    liar.address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield liar
    finally:
        server.close()
        for task in liar.serving:
            task.cancel()
        await asyncio.gather(*liar.serving, return_exceptions=True)
        await asyncio.sleep(0)

"""What ComfyUI tells over its socket, sorted by the jobs that it is about."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import attrs

from swarmkernel_backends_remote.answers import fraction, read_object, text
from swarmkernel_backends_remote.comfy_graph import SAMPLER
from swarmkernel_backends_remote.errors import PeerError

MAX_PREVIEW: Final = 4 << 20
_PREVIEW: Final = 1
_PREVIEW_WITH_METADATA: Final = 4
_WORD: Final = 4
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
#: Events that are about the job that runs, if they name none. Other plain ones tell of the server: its queue, its load.
_UNNAMED: Final = frozenset({"executing", "progress"})


@attrs.define(eq=False)
class Run:
    """A job over there: what was heard of it last. `done` is how much of the sampling is done, from 0 to 1.

    `raw` are its messages as they came, if somebody wants them.
    """

    id: str
    done: float = 0.0
    preview: bytes | None = None
    is_over: bool = False
    error: PeerError | None = None
    outputs: dict[str, Any] = attrs.field(factory=dict)
    heard_at: float = attrs.field(factory=time.monotonic)
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    raw: deque[bytes] | None = None

    def keep(self, message: str | bytes) -> None:
        """Note a message as it came, if that is wanted."""
        if self.raw is not None:
            self.raw.append(message.encode() if isinstance(message, str) else message)

    def touch(self) -> None:
        """It lives."""
        self.heard_at = time.monotonic()
        self.changed.set()

    def end(self, error: PeerError | None = None) -> None:
        """It has ended."""
        self.is_over, self.error = True, self.error or error
        self.touch()

    def show(self, picture: bytes) -> None:
        """Note a preview, if it looks like one."""
        if len(picture) <= MAX_PREVIEW and picture.startswith(_MAGIC):
            self.preview = picture
            self.touch()

    def advance(self, value: object, most: object) -> None:
        """Note how far the sampling is."""
        if _is_number(value) and _is_number(most) and most > 0:  # type: ignore[operator]
            self.done = fraction(value / most)  # type: ignore[operator]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@attrs.define(eq=False)
class Events:
    """Hands what is heard to the runs that it is about. What is unknown, garbage or about others is left alone."""

    runs: dict[str, Run] = attrs.field(factory=dict)
    _current: Run | None = attrs.field(default=None, init=False)

    async def hear(self, message: str | bytes) -> None:
        """Take one message of the socket."""
        with suppress(PeerError):
            run = await (self._picture(message) if isinstance(message, bytes) else self._text(message))
            if run is not None:
                run.keep(message)

    async def _text(self, message: str) -> Run | None:
        """Take an event. The run that it is about."""
        said = await read_object(message)
        kind, data = said.get("type"), said.get("data")
        return self._event(kind, data) if isinstance(kind, str) and isinstance(data, dict) else None

    def _event(self, kind: str, data: Mapping[str, Any]) -> Run | None:
        run = self._current if kind in _UNNAMED else None
        if (prompt_id := data.get("prompt_id")) is not None:
            run = self.runs.get(prompt_id) if isinstance(prompt_id, str) else None
            if kind in {"execution_start", "executing", "progress", "progress_state"}:
                self._current = run
        if run is None or run.is_over:
            return None
        _note(run, kind, data)
        run.touch()
        return run

    async def _picture(self, message: bytes) -> Run | None:
        """Take a preview. The run that it is of."""
        kind, rest = int.from_bytes(message[:_WORD]), message[_WORD:]
        run = self._current if kind == _PREVIEW else None
        if kind == _PREVIEW_WITH_METADATA:
            size = int.from_bytes(rest[:_WORD])
            metadata = await read_object(rest[_WORD : _WORD + size])
            prompt_id = metadata.get("prompt_id")
            run = self.runs.get(prompt_id) if isinstance(prompt_id, str) else self._current
            rest = rest[size:]
        if run is not None:
            run.show(rest[_WORD:])
        return run


def _note(run: Run, kind: str, data: Mapping[str, Any]) -> None:
    match kind:
        case "progress" if data.get("node") in (SAMPLER, None):
            run.advance(data.get("value"), data.get("max"))
        case "progress_state":
            nodes = data.get("nodes")
            sampler = nodes.get(SAMPLER) if isinstance(nodes, dict) else None
            if isinstance(sampler, dict):
                run.advance(sampler.get("value"), sampler.get("max"))
        case "executed" if isinstance(data.get("node"), str):
            run.outputs[data["node"]] = data.get("output")
        case "execution_success":
            run.end()
        case "executing" if data.get("node") is None:
            run.end()
        case "execution_error":
            run.end(failure(data))
        case "execution_interrupted":
            run.end(PeerError("The job was interrupted in ComfyUI.", "remote_interrupted"))


def failure(data: Mapping[str, Any]) -> PeerError:
    """What went wrong in a node, in words."""
    node = f"{text(data.get('node_id'), 80)} ({text(data.get('node_type'), 80)})"
    said = text(data.get("exception_message")) or text(data.get("exception_type")) or "no reason"
    return PeerError(f"ComfyUI failed in its node {node}: {said}")


def refusal(answer: Mapping[str, Any]) -> PeerError:
    """What a graph was refused for, in words."""
    found = answer.get("node_errors")
    told = [_told(node, said) for node, said in found.items()] if isinstance(found, dict) else []
    error = answer.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    why = "; ".join(filter(None, told[:4])) or text(said) or "no reason"
    return PeerError(f"ComfyUI refused the graph: {why}")


def _told(node: str, said: object) -> str:
    if not isinstance(said, dict):
        return ""
    kind, errors = text(said.get("class_type"), 80), said.get("errors")
    details = [_detail(error) for error in errors[:4]] if isinstance(errors, list) else []
    return f"node {text(node, 80)} ({kind}), {', '.join(filter(None, details))}"


def _detail(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    extra = error.get("extra_info")
    name = text(extra.get("input_name"), 80) if isinstance(extra, dict) else ""
    details = text(error.get("details"), 200)
    return f"input {name or '?'}: {text(error.get('message'), 200)}" + (f" ({details})" if details else "")

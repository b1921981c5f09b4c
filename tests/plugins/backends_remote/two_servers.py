"""What tests do with two servers, of which one has the other for a backend."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
from safetensors.numpy import save_file

from swarmkernel.testing import Client, LiveServer

CANVAS = Path(__file__).parents[1] / "t2i_api" / "canvas.py"
NOT_NEEDED = ["--disable", "backends_torch", "--disable", "starter_model", "--disable", "backends_onnx"]
QUICK = {
    "SWARMKERNEL_T2I_API__SOCKET_GRACE": "0.3",
    "SWARMKERNEL_T2I_API__MIN_FREE_MB": "1",
    "SWARMKERNEL_BACKEND_API__RESTART_PAUSE_SECONDS": "0.05",
    "SWARMKERNEL_BACKEND_API__INIT_PAUSE_SECONDS": "0.05",
}


def write_model(folder: Path, name: str, architecture: str = "stable-diffusion-v1") -> None:
    """A small model file of a known class."""
    path = folder / "Models" / "Stable-Diffusion" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.zeros((2, 2), np.float16)}, path, {"modelspec.architecture": architecture})


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> object:
    """Wait until something is true, and give it."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.05)
    return found


def path_of(folder: Path) -> str:
    """The search path of modules for servers that see a folder of distributions."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@attrs.define
class Worker:
    """The server that paints, and the diary of its backends, without the lines that are `skipped`."""

    server: LiveServer
    diary: Path
    skipped: int = 0

    def lines(self, start: str = "") -> list[str]:
        """The diary's lines that begin like that."""
        text = self.diary.read_text() if self.diary.exists() else ""
        return [line for line in text.splitlines()[self.skipped :] if line.startswith(start)]


@attrs.define
class Chain:
    """The server that clients speak to, and the one behind it."""

    front: LiveServer
    worker: Worker

    def connect(self, **settings: object) -> int:
        """Add the worker as a backend of the front; its id."""
        client = self.front.client()
        number = client.post("AddNewBackend", type_id="swarmswarmbackend")["id"]
        wanted = {"Address": self.worker.server.url, **settings}
        answer = client.post("EditBackend", backend_id=number, title="far", settings=wanted)
        assert "error" not in answer, answer
        return number

    def backends(self, **wanted: object) -> list[dict]:
        """The front's backends, temporary ones too, that look like that."""
        found = self.front.client().post("ListBackends", nonreal=True, full_data=True).values()
        return [entry for entry in found if wanted.items() <= entry.items()]

    def mirrors(self, **wanted: object) -> list[dict]:
        """Those that stand for backends of the worker."""
        return [entry for entry in self.backends(**wanted) if entry["id"] < 0]

    def anew(self) -> "Chain":
        """The same, with nothing in the diary yet."""
        return Chain(
            self.front, attrs.evolve(self.worker, skipped=self.worker.skipped + len(self.worker.lines()))
        )

    def disconnect(self) -> None:
        """Take all backends away."""
        client = self.front.client()
        for number in [entry["id"] for entry in self.backends() if entry["id"] >= 0]:
            client.post("DeleteBackend", backend_id=number)
        wait_for(lambda: self.backends() == [])

    def check(self) -> None:
        """Nothing went wrong in the front."""
        assert [] == [line for line in self.front.log if "Traceback" in line or "CRITICAL" in line]

    def ready(self, count: int = 1) -> Client:
        """A client of the front, once so many of the worker's backends run there."""
        wait_for(lambda: len(self.mirrors(status="running")) == count)
        return self.front.client()


def has_run(worker: Worker) -> bool:
    """Whether the worker's backend runs."""
    return any(b["status"] == "running" for b in worker.server.client().post("ListBackends").values())


def metadata(frame: dict) -> dict:
    """The parameters in the metadata of an image frame."""
    return json.loads(frame["metadata"])["sui_image_params"]

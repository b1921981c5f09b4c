"""What continuous batching gains, through the whole server, on the starter model."""

import statistics
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

import attrs

from swarmkernel.testing import Client, LiveServer

IMAGES = 8
REPEATS = 3


@attrs.frozen
class Gain:
    """Images per second."""

    alone: float
    together: float


def batching() -> Gain | None:
    """Eight requests for one image against one request for eight, in one run; None where there is no torch backend."""
    if not {"backends_torch", "starter_model"} <= {ep.name for ep in entry_points(group="swarmkernel.v1")}:
        return None
    with tempfile.TemporaryDirectory() as folder, LiveServer(Path(folder)) as server:
        client = server.client()
        _generate(client, IMAGES)  # loads the model and warms the batch up
        _generate(client, 1)
        alone, together = zip(
            *((_rate(client, [1] * IMAGES), _rate(client, [IMAGES])) for _ in range(REPEATS)), strict=True
        )
    return Gain(statistics.median(alone), statistics.median(together))


def _rate(client: Client, requests: list[int]) -> float:
    """Images per second over requests for so many images each, one after the other."""
    began = time.perf_counter()
    for images in requests:
        _generate(client, images)
    return sum(requests) / (time.perf_counter() - began)


def _generate(client: Client, images: int) -> None:
    body = {"prompt": "a red circle on a blue background", "seed": 1, "donotsave": True}
    answer = client.post("GenerateText2Image", images=images, model="starter", **body)
    if len(answer.get("images", [])) != images:
        raise RuntimeError(f"the server did not generate: {str(answer)[:500]}")

"""The starter model as ONNX: the same model, listed once, with the same pictures through both engines."""

import numpy as np

from swarmkernel import MemoryStore
from swarmkernel_backends_onnx import OnnxSettings
from swarmkernel_backends_onnx.backend import OnnxBackend
from swarmkernel_backends_torch import TorchSettings
from swarmkernel_backends_torch.backend import TorchBackend
from swarmkernel_models_api import LoadModel, Models
from swarmkernel_starter_model.plugin import MODELS, models_folders
from swarmkernel_t2i_api import ImageJob, Output

MODEL = MODELS / "starter"
#: By how many levels of 255 a picture may differ between the engines: at most, and on average.
AT_MOST, ON_AVERAGE = 2, 0.05


async def pictures(backend, jobs):
    """What a backend makes of the jobs, one after the other."""
    await backend.start()
    try:
        async for _ in backend.load_model(LoadModel("starter", str(MODEL))):
            pass
        return [
            next(e.image for e in [e async for e in backend.generate(job)] if isinstance(e, Output))
            for job in jobs
        ]
    finally:
        await backend.stop()


def job(**more):
    """A picture of the model's own size."""
    asked = {"prompt": "a red circle on a blue background", "seed": 1, "steps": 20, "cfg_scale": 4.0}
    size = {"width": 128, "height": 128, "previews": False}
    return ImageJob(**{"id": "job", "model_path": str(MODEL)} | size | asked | more)


async def test_both_engines_give_the_same_picture():
    """For the same seed the two forms give the same picture, up to rounding, whatever the sampler, size and prompt."""
    jobs = [
        job(),
        job(seed=2, prompt="a yellow star on a purple background", sampler="dpmpp_2m", scheduler="karras"),
        job(seed=3, prompt="a house in the mountains at night", width=160, height=104),
        job(seed=4, prompt="a cat", sampler="euler_ancestral", clip_stop_at_layer=-2, steps=10),
    ]
    by_torch = await pictures(TorchBackend(TorchSettings(device="cpu")), jobs)
    by_onnx = await pictures(OnnxBackend(OnnxSettings(provider="CPU", threads=1)), jobs)
    found = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(by_torch, by_onnx, strict=True)]
    worst = [(int(difference.max()), round(float(difference.mean()), 3)) for difference in found]
    assert [] == [pair for pair in worst if pair[0] > AT_MOST or pair[1] > ON_AVERAGE], worst
    assert min(float(picture.std()) for picture in by_onnx) > 10


async def test_one_model_in_two_forms():
    """The model list has one model, which both kinds of backend can load."""
    models = Models(models_folders(), MemoryStore())
    await models.refresh()
    [starter] = models.list()
    assert ("starter", {"safetensors", "onnx"}) == (starter.name, set(starter.forms))
    assert None is starter.problem

"""Models that were exported in half precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarmkernel_backends_torch.export import Export

RED = "a red circle on a blue background"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def test_the_starter_model_draws_in_half_precision(
    models: Any, onnx_rig: Any, levels: Any, tmp_path: Path
) -> None:
    """Exported in fp16, the model that ships with the server draws what it draws in fp32; its text encoder stays as it is."""
    Export(models.starter, None, "fp16", 18, lambda _: None).write(tmp_path / "half", in_place=False)
    pictures = []
    for path in (models.starter, tmp_path / "half"):
        await onnx_rig.load(path)
        pictures.append(await onnx_rig.picture(RED, width=128, height=128, steps=20, seed=1))
    parts = onnx_rig.backend._sampler.parts
    assert np.float16 == parts.unet.inputs["sample"].dtype
    assert "tensor(float)" == parts.towers[0].graph.session.get_outputs()[0].type
    assert levels(*pictures) <= 4

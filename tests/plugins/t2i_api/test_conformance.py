"""The suite for backends of others, held against the backend of these tests."""

import sys
from pathlib import Path
from typing import ClassVar

import pytest

from swarmkernel_t2i_api import ImageJob
from swarmkernel_t2i_api.testing import GenerateConformance

sys.path.append(str(Path(__file__).parent))

from canvas import CANVAS


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


class TestCanvas(GenerateConformance):
    """The backend that paints one colour."""

    kind = CANVAS
    settings: ClassVar = {"step_seconds": 0.01}
    abilities: ClassVar = {"generate", "load_model"}
    job = ImageJob("1", "a cat", width=96, height=64, steps=6)
    interrupt_seconds = 2.0

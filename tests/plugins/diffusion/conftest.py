"""Denoisers that the engine's tests drive, on NumPy and on torch."""

import attrs
import numpy as np
import pytest

from swarmkernel_diffusion import NUMPY, Arrays, Engine, NoiseSchedule


@pytest.fixture(scope="session")
def trained():
    """Stable Diffusion's noise levels."""
    return NoiseSchedule.from_betas(0.00085, 0.012, "scaled_linear", 1000)


@attrs.frozen
class Elementwise:
    """A network whose every row depends on that row's input, timestep and conditioning (a number) alone."""

    name: str
    arrays: Arrays
    tanh: object

    def __call__(self, x, timesteps, conditionings):
        numbers = self.arrays.asarray(np.array(conditionings, dtype=np.float32))
        column = (-1, *(1 for _ in x.shape[1:]))
        return self.tanh(x * numbers.reshape(column) + timesteps.reshape(column) * 0.001)

    def engine(self, trained, **options):
        """An engine around this network."""
        return Engine(options.pop("predict", self), trained, arrays=self.arrays, **options)


@pytest.fixture(params=["numpy", "torch"])
def network(request):
    """The elementwise network, once per array library."""
    if request.param == "numpy":
        return Elementwise("numpy", NUMPY, np.tanh)
    torch = pytest.importorskip("torch")
    return Elementwise("torch", Arrays(torch.from_numpy, torch.cat), torch.tanh)


def drain(engine):
    """Step until nothing is active; all latents by id, as NumPy arrays."""
    latents = {}
    while engine.active:
        report = engine.step()
        assert () == report.failed
        latents |= {done.id: np.asarray(done.latents) for done in report.finished}
    return latents


@pytest.fixture(name="drain", scope="session")
def drain_fixture():
    """The function `drain`."""
    return drain

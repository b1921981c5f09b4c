"""Samplers, sigma schedules and step-level continuous batching, over NumPy arrays and torch tensors alike."""

from swarmkernel_diffusion.arrays import NUMPY, Array, Arrays
from swarmkernel_diffusion.conditioning import MAX_PIECES, Conditioning, Encoded, PromptEncoder
from swarmkernel_diffusion.engine import Engine, Failed, Finished, Progress, StepReport
from swarmkernel_diffusion.errors import DiffusionError
from swarmkernel_diffusion.forward import Predict
from swarmkernel_diffusion.noise import noise, slerp
from swarmkernel_diffusion.plan import PREDICTIONS, Plan, make_plan
from swarmkernel_diffusion.sample import Sample
from swarmkernel_diffusion.samplers import SAMPLERS
from swarmkernel_diffusion.schedules import SCHEDULES, NoiseSchedule

__all__ = [
    "MAX_PIECES",
    "NUMPY",
    "PREDICTIONS",
    "SAMPLERS",
    "SCHEDULES",
    "Array",
    "Arrays",
    "Conditioning",
    "DiffusionError",
    "Encoded",
    "Engine",
    "Failed",
    "Finished",
    "NoiseSchedule",
    "Plan",
    "Predict",
    "Progress",
    "PromptEncoder",
    "Sample",
    "StepReport",
    "make_plan",
    "noise",
    "slerp",
]

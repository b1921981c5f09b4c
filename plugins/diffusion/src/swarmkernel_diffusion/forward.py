"""One forward pass of the network for many rows, with classifier-free guidance and padding."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from swarmkernel_diffusion.arrays import Array, Arrays
from swarmkernel_diffusion.errors import DiffusionError
from swarmkernel_diffusion.sample import Sample

Predict: TypeAlias = Callable[[Array, Array, list[Any]], Array]
"""`predict(x, timesteps, conditionings)` to the network's output, of x's shape and dtype.

x is what the network takes, already scaled, float32 of shape (rows, *shape); timesteps are float32 of shape (rows,)
and may be fractional; there is one conditioning per row: first every sample's `cond`, then the `uncond` of
those that are guided, then repeats that pad the batch. How they are stacked is the function's affair.
"""


@attrs.frozen
class Forward:
    """The network as the batch sees it."""

    predict: Predict
    arrays: Arrays
    buckets: Sequence[int]
    """Numbers of rows to pad to; empty for no padding."""

    def __call__(self, x: Array, timesteps: Array, scale: Array, samples: Sequence[Sample]) -> Array:
        """The guided output u + scale * (c - u), shape of x; a sample with CFG scale 1 has a conditional row only."""
        guided = [i for i, sample in enumerate(samples) if sample.guided]
        conditionings = [s.cond for s in samples] + [samples[i].uncond for i in guided]
        if not guided:
            return self._padded(x, timesteps, conditionings)
        count = len(samples)
        which: slice | list[int] = slice(None) if len(guided) == count else guided
        inputs = self.arrays.concat([x, x[which]])
        output = self._padded(inputs, self.arrays.concat([timesteps, timesteps[which]]), conditionings)
        c, u = output[:count], output[_uncond_rows(count, guided)]
        return u + scale * (c - u)

    def _padded(self, x: Array, timesteps: Array, conditionings: list[Any]) -> Array:
        rows = len(conditionings)
        extra = min((size for size in self.buckets if size >= rows), default=rows) - rows
        if extra:
            x = self.arrays.concat([x, *[x[:1]] * extra])
            timesteps = self.arrays.concat([timesteps, *[timesteps[:1]] * extra])
            conditionings = conditionings + conditionings[:1] * extra
        output = self.predict(x, timesteps, conditionings)
        if tuple(output.shape) != tuple(x.shape) or output.dtype != x.dtype:
            raise DiffusionError(
                f"predict returned {output.dtype} of shape {tuple(output.shape)}"
                f" instead of {x.dtype} of shape {tuple(x.shape)}"
            )
        return output[:rows]


def _uncond_rows(count: int, guided: list[int]) -> slice | list[int]:
    """Where each sample's unconditional output is; for one that is not guided, its conditional output serves."""
    if len(guided) == count:
        return slice(count, None)
    rows = list(range(count))
    for place, i in enumerate(guided):
        rows[i] = count + place
    return rows

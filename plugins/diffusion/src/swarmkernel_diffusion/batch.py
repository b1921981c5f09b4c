"""Rows that share forward passes, and the one vectorised update that moves them all."""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from swarmkernel_diffusion.arrays import Array, Arrays
from swarmkernel_diffusion.errors import DiffusionError
from swarmkernel_diffusion.forward import Forward
from swarmkernel_diffusion.held import Held
from swarmkernel_diffusion.noise import initial_noise, noise
from swarmkernel_diffusion.plan import COLUMNS, Plan
from swarmkernel_diffusion.sample import Sample

_FRESH_NOISE = COLUMNS.index("n")


@attrs.define(eq=False)
class Row:
    """One active sample: its plan with the CFG scale as a last column, and how far it is."""

    sample: Sample
    plan: Plan
    served: int
    """When it was last moved, by the engine's count of forward passes."""
    table: NDArray[np.float32] = attrs.field(init=False)
    calls: int = 0
    held: Held | None = attrs.field(default=None, init=False)
    """What it is held to where its mask says so; known once it has started."""

    @table.default
    def _table(self) -> NDArray[np.float32]:
        scale = np.full((len(self.plan.table), 1), self.sample.cfg_scale, dtype=np.float32)
        return np.hstack((self.plan.table, scale))

    @property
    def done(self) -> bool:
        """Whether all its calls are made."""
        return self.calls == len(self.table)

    def start(self, arrays: Arrays) -> Array:
        """Its latent at the first sigma s, shape (1, *shape): init + s * noise, or the noise alone.

        Without `init` the noise has the whole variance s^2 + 1, as if it were a noised picture of unit variance;
        in the variance-preserving variable that is the plain unit noise that diffusers and ComfyUI start from.
        """
        sample, sigma = self.sample, self.plan.sigma
        seeds = sample.seed, sample.shape, sample.variation_seed, sample.variation_strength
        fresh = arrays.asarray(initial_noise(*seeds)[None])
        if sample.init is None:
            x = fresh * (sigma**2 + 1) ** 0.5
        else:
            x = _row(sample.init, "initial", fresh) + fresh * sigma
        if sample.mask is None:
            return x
        self.held = Held(arrays.asarray(sample.mask[None]), _row(sample.keep, "kept", fresh), fresh)
        return self.held.blend(x, sigma)

    def fresh_noise(self) -> NDArray[np.float32]:
        """What an ancestral sampler adds at this call: a function of the seed and the step, of nothing else."""
        return noise(self.sample.seed, self.sample.shape, 1 + self.plan.step_of[self.calls])


@attrs.define(eq=False)
class Batch:
    """The active rows of one group, their state stacked; the row that has waited longest comes first."""

    arrays: Arrays
    rows: list[Row] = attrs.field(factory=list)
    state: tuple[Array, ...] = ()
    """x, history h and denoised estimate D, each of shape (rows, *shape)."""

    def add(self, row: Row) -> None:
        """Let a row join, at the end of the line."""
        x = row.start(self.arrays)
        fresh = (x, x * 0, x * 0)
        self.state = tuple(map(self._join, self.state, fresh)) if self.rows else fresh
        self.rows.append(row)

    def drop(self, leaving: Sequence[Row]) -> None:
        """Let rows leave, wherever they are."""
        keep = [i for i, row in enumerate(self.rows) if row not in leaving]
        self.rows = [self.rows[i] for i in keep]
        self.state = tuple(part[keep] for part in self.state)

    def denoised(self, row: Row) -> Array:
        """A row's latest denoised estimate, shape `shape`."""
        i = self.rows.index(row)
        return self.state[2][i] if row.held is None else row.held.blend(self.state[2][i : i + 1], 0)[0]

    def latent(self, row: Row) -> Array:
        """A row's latent, shape `shape`."""
        return self.state[0][self.rows.index(row)]

    def advance(self, count: int, forward: Forward, now: int) -> None:
        """Move the first `count` rows by one model call and put them to the end of the line.

        When `forward` raises, nothing has changed.
        """
        rows, waiting = self.rows[:count], self.rows[count:]
        moved = _moved(rows, tuple(part[:count] for part in self.state), forward)
        if waiting:
            moved = tuple(map(self._join, (part[count:] for part in self.state), moved))
        self.rows, self.state = waiting + rows, moved
        for row in rows:
            row.calls += 1
            row.served = now

    def _join(self, a: Array, b: Array) -> Array:
        return self.arrays.concat([a, b])


def _row(latent: Array, what: str, like: Array) -> Array:
    """A caller's latent as the one row of a batch."""
    if latent.dtype != like.dtype:
        raise DiffusionError(f"the {what} latent must be {like.dtype}, not {latent.dtype}")
    return latent.reshape(like.shape)


def _moved(rows: list[Row], state: tuple[Array, ...], forward: Forward) -> tuple[Array, ...]:
    """The state of these rows after one model call: `samplers` has the formula."""
    x, h, _ = state
    host = np.stack([row.table[row.calls] for row in rows], axis=1)
    numbers = forward.arrays.asarray(host)
    each = numbers.reshape(*host.shape, *(1 for _ in rows[0].sample.shape))
    _, c_in, c_skip, c_out, a, b, c, n, p, q, to, scale = each
    output = forward(x * c_in, numbers[0], scale, [row.sample for row in rows])
    denoised = c_skip * x + c_out * output
    new = a * x + b * denoised + c * h
    if host[_FRESH_NOISE].any():
        new = new + n * forward.arrays.asarray(_fresh_noise(rows, host[_FRESH_NOISE]))
    return _held(rows, new, to, forward.arrays), p * x + q * denoised, denoised


def _held(rows: list[Row], x: Array, sigma: Array, arrays: Arrays) -> Array:
    """The rows x at these noise levels, masked ones held to what they keep."""
    if all(row.held is None for row in rows):
        return x
    one_by_one = [slice(i, i + 1) for i in range(len(rows))]
    return arrays.concat(
        [
            x[i] if row.held is None else row.held.blend(x[i], sigma[i])
            for row, i in zip(rows, one_by_one, strict=True)
        ]
    )


def _fresh_noise(rows: list[Row], strengths: NDArray[np.float32]) -> NDArray[np.float32]:
    fresh = np.zeros((len(rows), *rows[0].sample.shape), dtype=np.float32)
    for i in np.flatnonzero(strengths):
        fresh[i] = rows[i].fresh_noise()
    return fresh

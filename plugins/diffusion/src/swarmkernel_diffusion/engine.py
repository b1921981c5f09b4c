"""Step-level continuous batching: one running batch of pictures that are each at a step of their own."""

from collections.abc import Hashable, Sequence

import attrs

from swarmkernel_diffusion.arrays import NUMPY, Array, Arrays
from swarmkernel_diffusion.batch import Batch, Row
from swarmkernel_diffusion.checks import check_choice, check_whole
from swarmkernel_diffusion.errors import DiffusionError
from swarmkernel_diffusion.forward import Forward, Predict
from swarmkernel_diffusion.plan import PREDICTIONS, Plan, make_plan
from swarmkernel_diffusion.sample import Sample
from swarmkernel_diffusion.schedules import NoiseSchedule


@attrs.frozen
class Progress:
    """A sample that was moved and goes on: `step` of its `steps` are done."""

    id: Hashable
    step: int
    steps: int


@attrs.frozen(eq=False)
class Finished:
    """A sample that is done, with its clean latents, shape `Sample.shape`."""

    id: Hashable
    latents: Array


@attrs.frozen(eq=False)
class Failed:
    """A sample that is lost, and why."""

    id: Hashable
    error: Exception


@attrs.frozen(eq=False)
class StepReport:
    """What one `Engine.step` did; finished and failed samples are no longer active."""

    advanced: tuple[Progress, ...] = ()
    finished: tuple[Finished, ...] = ()
    failed: tuple[Failed, ...] = ()


def _check_prediction(_engine: object, _attribute: object, value: object) -> None:
    check_choice("prediction type", value, PREDICTIONS)


def _check_max_batch(_engine: object, _attribute: object, value: object) -> None:
    check_whole("largest batch", value, 1)


def _check_buckets(engine: "Engine", _attribute: object, value: Sequence[int]) -> None:
    for size in value:
        check_whole("bucket", size, 1)
    if value and max(value) < 2 * engine.max_batch:
        raise DiffusionError(
            f"the largest bucket must hold {2 * engine.max_batch} rows (each sample's conditional and unconditional one)"
        )


@attrs.define(eq=False)
class Engine:
    """Samples many pictures of one model together. To be called from one thread.

    A sample may be admitted or removed between any two steps. Each `step` is one forward pass: the sample that has
    waited longest goes, together with those of its group that waited next longest, up to `max_batch` samples.
    So every sample moves at least once in any `sum(ceil(samples of a group / max_batch))` forwards, the fewest that
    serve all, no forward runs emptier than its group allows, and a newcomer or an interrupt waits for one forward only.

    What a sample yields depends on nothing but itself, up to the floating-point noise of a batch size: matrix kernels
    may add up in another order for another number of rows. `buckets` takes that away too: batches are padded to
    these numbers of rows, so with a single bucket every forward has the same size.
    """

    predict: Predict
    noise_schedule: NoiseSchedule
    prediction: str = attrs.field(default="epsilon", kw_only=True, validator=_check_prediction)
    """What the network's output means: one of `PREDICTIONS`."""
    arrays: Arrays = attrs.field(default=NUMPY, kw_only=True)
    max_batch: int = attrs.field(default=8, kw_only=True, validator=_check_max_batch)
    """Samples per forward pass, each of one or two rows; may be assigned at any time."""
    buckets: Sequence[int] = attrs.field(default=(), kw_only=True, validator=_check_buckets)
    _batches: dict[Hashable, Batch] = attrs.field(factory=dict, init=False)
    _rows: dict[Hashable, Row] = attrs.field(factory=dict, init=False)
    _forwards: int = attrs.field(default=0, init=False)

    @property
    def active(self) -> int:
        """How many samples are running."""
        return len(self._rows)

    @property
    def ids(self) -> tuple[Hashable, ...]:
        """The running samples, in the order of their admission."""
        return tuple(self._rows)

    def admit(self, sample: Sample, plan: Plan | None = None) -> None:
        """Let a sample join at the next step; a plan of the caller's own replaces the one by sampler and schedule.

        Raises `DiffusionError` when the id is taken or the model has fewer timesteps than the sample has steps.
        """
        if sample.id in self._rows:
            raise DiffusionError(f"sample {sample.id!r} is already active")
        row = Row(sample, plan or self._plan(sample), self._forwards)
        key = _group(sample)
        batch = self._batches.get(key) or Batch(self.arrays)
        batch.add(row)
        self._batches[key] = batch
        self._rows[sample.id] = row

    def remove(self, sample_id: Hashable) -> bool:
        """Forget a sample at once; False when it is not active."""
        if sample_id not in self._rows:
            return False
        self._drop([self._rows[sample_id]])
        return True

    def preview(self, sample_id: Hashable) -> Array | None:
        """A sample's latest denoised estimate (x0), shape `Sample.shape`; None before its first step or when not active."""
        row = self._rows.get(sample_id)
        return self._batches[_group(row.sample)].denoised(row) if row and row.calls else None

    def step(self) -> StepReport:
        """Run one forward pass and tell what came of it; with nothing active, an empty report.

        An exception of `predict` fails the samples of that forward pass, and is reported, not raised.
        """
        if not self._rows:
            return StepReport()
        batch = min(self._batches.values(), key=lambda waiting: waiting.rows[0].served)
        rows = batch.rows[: self.max_batch]
        self._forwards += 1
        try:
            batch.advance(len(rows), Forward(self.predict, self.arrays, self.buckets), self._forwards)
        except Exception as error:  # noqa: BLE001 - a network may raise anything, the others must go on
            self._drop(rows)
            return StepReport(failed=tuple(Failed(row.sample.id, error) for row in rows))
        return self._settle(batch, rows)

    def _settle(self, batch: Batch, rows: list[Row]) -> StepReport:
        done = [row for row in rows if row.done]
        results = [_result(row, batch.latent(row)) for row in done]
        self._drop(done)
        return StepReport(
            advanced=tuple(_progress(row) for row in rows if not row.done),
            finished=tuple(result for result in results if isinstance(result, Finished)),
            failed=tuple(result for result in results if isinstance(result, Failed)),
        )

    def _drop(self, rows: list[Row]) -> None:
        """Take rows of one group out."""
        if not rows:
            return
        key = _group(rows[0].sample)
        self._batches[key].drop(rows)
        if not self._batches[key].rows:
            del self._batches[key]
        for row in rows:
            del self._rows[row.sample.id]

    def _plan(self, sample: Sample) -> Plan:
        return make_plan(
            sample.sampler,
            self.noise_schedule,
            schedule=sample.schedule,
            steps=sample.steps,
            start_step=sample.start_step,
            prediction=self.prediction,
        )


def _group(sample: Sample) -> Hashable:
    return sample.shape, sample.group


def _progress(row: Row) -> Progress:
    return Progress(row.sample.id, row.plan.steps_done(row.calls), row.plan.steps)


def _result(row: Row, latents: Array) -> Finished | Failed:
    """A finished row's latents, or its failure when one of them is not a number (which x - x == 0 finds everywhere)."""
    if bool((latents - latents == 0).all()):
        return Finished(row.sample.id, latents)
    error = DiffusionError("the model's output is not finite: try a lower CFG scale or a higher precision")
    return Failed(row.sample.id, error)

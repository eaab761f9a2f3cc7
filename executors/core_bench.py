"""The executor without Kafka against bare calls of its sessions, over the same batches in one run.

The executor's side is all that ``executors.execution`` does: rows of a routed frame are queued, batched, gathered,
looked through for repetitions, run, cut into pieces and made executed frames. The bare side calls ``session.run`` of
ONNX Runtime on arrays that lie there. Both are timed in turn and the best of each counts, as processor time of this
process on a CPU and as time that passed on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from executors.executed import Work
from executors.execution import Execution
from executors.profile import Version
from executors.runtime import CPU
from executors.session import ModelSession, Session
from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams.columns import Array
from streams.tensors import data_of

SLICE_US: Final = 4_000.0
BUDGET_US: Final = 20_000.0
FAR_US: Final = 1 << 60
ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class CoreFigures:
    """Microseconds per batch of ``batch_size`` items over ``num_models`` models in turn; ``ratio`` is bare / core."""

    batch_size: int
    num_models: int
    bare_us: float
    core_us: float

    @property
    def ratio(self) -> float:
        """What the executor leaves of a bare loop's speed."""
        return self.bare_us / self.core_us


def measure_core(
    sessions: Sequence[ModelSession], batch_size: int, *, num_rounds: int = 4, repeats: int = 100, seed: int = 0
) -> CoreFigures:
    """Time both sides; ``num_rounds`` x ``sessions`` batches per timing, the best of ``repeats`` of each.

    Timings are short, so that some of them are not disturbed by whatever else runs here. The sessions are those of
    different models with inputs of numbers; no two rows are alike.
    """
    random = np.random.default_rng(seed)
    inputs = [_inputs(session, batch_size, random) for session in sessions]
    frame = _frame(sessions, inputs, batch_size)
    execution = Execution("core", _Loaded(sessions), _nothing)
    on_cpu = all(session.provider == CPU for session in sessions)
    clock = time.process_time_ns if on_cpu else time.perf_counter_ns
    runs = [session.bare_run for session in sessions]

    def bare() -> None:
        for run, feed in zip(runs, inputs, strict=True):
            run(None, feed)

    def core() -> None:
        work = Work.of(frame, None, None, 0)
        if not execution.run_alone(work, time.time_ns() // 1000, BUDGET_US):
            execution.add(work, time.time_ns() // 1000)
        while execution.run_short(time.time_ns() // 1000, SLICE_US, inf, 0) is not None:
            pass
        for _ in execution.outbox.flush(time.time_ns() // 1000):
            pass

    best = {bare: float("inf"), core: float("inf")}
    for _ in range(repeats):
        for side in best:
            best[side] = min(best[side], _time_us(side, clock, num_rounds))
    assert execution.counts.num_failed_rows == execution.counts.num_coalesced == 0
    return CoreFigures(batch_size, len(sessions), best[bare] / len(sessions), best[core] / len(sessions))


class _Loaded:
    """What the execution asks of a loader, with everything here."""

    def __init__(self, sessions: Sequence[ModelSession]) -> None:
        self.sessions: dict[Version, Session] = {(each.model.model, each.model.version): each for each in sessions}
        self.profiles = {version: session.profile for version, session in self.sessions.items()}

    def want(self, model: str, version: str) -> None:
        """Nothing is missing."""
        raise AssertionError(f"{model} {version} was asked for")


def _nothing(num_bytes: int) -> None:
    del num_bytes


def _time_us(side: Callable[[], None], clock: Callable[[], int], num_rounds: int) -> float:
    side()
    start = clock()
    for _ in range(num_rounds):
        side()
    return (clock() - start) / num_rounds / 1000


def _inputs(session: ModelSession, num_items: int, random: np.random.Generator) -> dict[str, Array]:
    """Random numbers for every public input; free axes have length 1."""
    made: dict[str, Array] = {}
    for name, blank in session.blanks(num_items).items():
        values = random.standard_normal(blank.shape) * 64
        made[name] = np.ascontiguousarray(values.astype(blank.dtype))
    return made


def _frame(
    sessions: Sequence[ModelSession], inputs: Sequence[Mapping[str, Array]], batch_size: int
) -> InferenceFrame:  # fmt: skip
    """A routed frame with a segment of ``batch_size`` rows per model."""
    segments = []
    for session, feed in zip(sessions, inputs, strict=True):
        blocks = [
            TensorBlock(spec.name, spec.datatype, feed[spec.name].shape[1:], data_of(feed[spec.name]))
            for spec in session.model.inputs
        ]
        segments.append(Segment(session.model.model, session.model.version, "", batch_size, tuple(blocks)))
    rows = batch_size * len(sessions)
    return InferenceFrame(
        1, 0, bytes(16), 0, 1, 0, 0, 0, tuple(segments), ("default",), (),
        offsets=np.arange(rows, dtype="<i8").tobytes(), gaps=bytes(4 * rows), received_us=bytes(8 * rows),
        deadlines_us=np.full(rows, FAR_US, "<i8").tobytes(), priorities=b"\x05" * rows, statuses=bytes(rows),
        roles=bytes(rows), row_items=np.ones(rows, "<u2").tobytes(), tenant_index=bytes(2 * rows),
        id_lengths=bytes([ID_BYTES]) * rows, ids=b"".join([b"%016d" % row for row in range(rows)]),
        key_lengths=bytes(2 * rows), routing_keys=b"",
    )  # fmt: skip

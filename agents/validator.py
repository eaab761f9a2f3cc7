"""Validator: the output gate and the only writer of results.

Consumes ``inference.executed`` (one state per source partition), watches ``memory.events``. Emits ``inference.results``
and ``inference.ledger-checkpoints`` through the fenced writer.

Invariants: a coordinate whose bit is pending or set gets no second result; a bit is set only when the result is
acknowledged; the checkpoint holds set bits only, together with the results offset up to which they are folded. The
reaper ends what nobody answered: past the longest timeout and grace a request is EXPIRED, or ERROR ``lost`` when later
ones of its partition were answered. A hedge, a row's copy to another lane, counts only where it is OK behind the gate.
A shadow, a row's copy to another version, never counts: it is gated, and compared with its row (``agents.comparison``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from agents.comparison import Waiting, copies_executed, expired, rows_answered
from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from schemas.ledger import LedgerCheckpoint
from schemas.model import ModelVersion
from streams.agent import AgentSpec, Effects, Event, Tick
from streams.cache.fill import fills
from streams.columns import (
    ERROR,
    EXPIRED,
    HEDGE,
    NUMPY_DTYPES,
    OK,
    PRIMARY,
    SHADOW,
    Array,
    Columns,
    block_array,
    end_rows,
    segment_starts,
    take,
)
from streams.frame_effects import Answer, Confirmed, FillCache, NoteShadows, Scanned, ScanRequests, WriteCheckpoint
from streams.memory_view import MemoryView, derived, model_version
from streams.shadow_view import shadows
from streams.tensors import FLOATING, is_finite
from streams.terminals import Terminals

CHECKPOINT_US: Final = 1_000_000
SCAN_US: Final = 5_000_000
SCAN_LENGTH: Final = 50_000
MOST_LAYOUTS: Final = 256
_OK: Final = bytes([OK])


@dataclass(frozen=True, slots=True)
class ValidatorParams:
    """``give_up_us``: longest timeout plus grace, after which the reaper ends a request."""

    give_up_us: int = 130_000_000


@dataclass(frozen=True, slots=True)
class ValidatorState:
    """The ledger of one partition.

    ``results_offset``: first results offset not folded into ``terminals``. ``stuck_low`` is the low watermark at the
    last look: only one that did not move is worth a scan. ``waiting``: copies and rows to be compared; no part of the
    ledger, and None as long as there was none.
    """

    topic_id: bytes
    partition: int
    terminals: Terminals
    results_offset: int = 0
    num_reaped: int = 0
    checkpoint_us: int = 0
    written: tuple[int, int] = (-1, -1)
    scan_us: int = 0
    scanning: bool = False
    stuck_low: int = -1
    waiting: Waiting | None = None


def decide(state: ValidatorState, event: Event, params: ValidatorParams) -> tuple[ValidatorState, Effects]:
    """Gate a frame, take a confirmation, write a checkpoint, or reap."""
    match event.record:
        case InferenceFrame() as frame:
            return _gate(state, frame, event.now_us, event.answers)
        case Confirmed() as confirmed:
            return replace(
                state,
                terminals=state.terminals.mark_set(confirmed.offsets),
                results_offset=max(state.results_offset, confirmed.results_offset),
                num_reaped=state.num_reaped + confirmed.num_reaped,
            ), ()
        case Scanned() as scanned:
            return _reap(replace(state, scanning=False), scanned, event.now_us)
        case Tick():
            return _tick(state, event.now_us, params)
    raise TypeError(f"the Validator takes frames, not {type(event.record).__name__}")


def _gate(
    state: ValidatorState, frame: InferenceFrame, now_us: int, memory: MemoryView
) -> tuple[ValidatorState, Effects]:
    if frame.topic_id != state.topic_id or frame.partition != state.partition:
        return state, ()  # a re-created requests topic: its coordinates are not this ledger's
    columns = Columns.of(frame)
    counts = columns.roles == PRIMARY
    if HEDGE in frame.roles:
        frame = gate(frame, memory)
        counts |= (columns.roles == HEDGE) & (np.frombuffer(frame.statuses, "|u1") == OK)
    terminals, rows = state.terminals.mark_gaps(columns.offsets, columns.gaps).begin(columns.offsets, counts)
    state = replace(state, terminals=terminals)
    effects: Effects = ()
    if SHADOW in frame.roles:
        copies = gate(take(frame, np.flatnonzero(columns.roles == SHADOW)), memory)
        waiting, said = copies_executed(state.waiting or Waiting(), copies, now_us)
        state, effects = replace(state, waiting=waiting), said
    if not len(rows):
        return state, effects
    gated = gate(take(frame, rows), memory)
    effects = (*effects, Answer(gated, now_us))
    cached = fills(gated, memory, now_us)
    if cached:
        effects = (*effects, FillCache(cached))
    if shadows(memory):
        waiting, said = rows_answered(state.waiting or Waiting(), gated, memory, now_us)
        state, effects = replace(state, waiting=waiting), (*effects, *said)
    return state, effects


def gate(frame: InferenceFrame, memory: MemoryView) -> InferenceFrame:
    """The frame with every OK row that fails the output gate turned into ERROR ``output_invalid``.

    Checked per segment: the outputs are those of the registered signature (names, datatypes, shapes), all values are
    finite unless the manifest allows others. A row that is still pending was not executed: ERROR ``internal``.
    """
    return frame if _passes(frame, memory) else _judged(frame, memory)


def _passes(frame: InferenceFrame, memory: MemoryView) -> bool:
    """Whether all rows ran, have the outputs of their signatures, and hold no number that is not finite."""
    if bytes(frame.statuses).strip(_OK):
        return False
    numbers: dict[str, list[bytes]] = {}
    for segment in frame.segments:
        if not _fits(segment, memory):
            return False
        for block in segment.outputs:
            if block.datatype in FLOATING:
                numbers.setdefault(block.datatype, []).append(block.data)
    return all(
        is_finite(datatype, np.frombuffer(b"".join(parts), NUMPY_DTYPES[datatype])).all()
        for datatype, parts in numbers.items()
    )


def _fits(segment: Segment, memory: MemoryView) -> bool:
    """Whether a segment's outputs are those of its version's signature; remembered as long as the view lasts."""
    known: dict[Any, bool] = derived(memory, ("outputs", segment.model, segment.version), dict)
    layout = tuple([(block.name, block.datatype, block.item_shape) for block in segment.outputs])
    fits = known.get(layout)
    if fits is None:
        if len(known) >= MOST_LAYOUTS:
            known.clear()
        version = model_version(memory, segment.model, segment.version)
        fits = known[layout] = version is not None and not signature_fault(segment, version)
    return fits


def _judged(frame: InferenceFrame, memory: MemoryView) -> InferenceFrame:
    """The gate row by row, for the few frames that do not pass as a whole."""
    columns = Columns.of(frame)
    statuses = columns.statuses.copy()
    errors = list(frame.errors)
    starts = segment_starts(frame)
    for number, segment in enumerate(frame.segments):
        version = model_version(memory, segment.model, segment.version)
        rows = slice(starts[number], starts[number + 1])
        if not (statuses[rows] <= OK).any():
            continue
        reason = "" if version is None else signature_fault(segment, version)
        bad = np.full(segment.num_rows, bool(reason)) | (statuses[rows] < OK)
        if not reason:
            bad |= ~_finite_rows(segment, version, columns.row_items[rows])
        for at in np.flatnonzero(bad & (statuses[rows] <= OK)).tolist():
            row = starts[number] + at
            executed = statuses[row] == OK
            statuses[row] = ERROR
            code = "output_invalid" if executed else "internal"
            sentence = (
                reason or "an output holds NaN or infinity" if executed else "the row reached the gate unexecuted"
            )
            errors.append(RowError(row, code, sentence))
    if len(errors) == len(frame.errors):
        return frame
    return replace(frame, statuses=statuses.tobytes(), errors=tuple(errors))


def signature_fault(segment: Segment, version: ModelVersion) -> str:
    """Why a segment's outputs are not those of the signature, or an empty string."""
    wanted = {spec.name: spec for spec in version.outputs}
    if {block.name for block in segment.outputs} != set(wanted):
        return "the model's outputs are not those of its signature"
    for block in segment.outputs:
        spec = wanted[block.name]
        if block.datatype != spec.datatype:
            return f"output {block.name} is {block.datatype}, the signature says {spec.datatype}"
        fits = len(block.item_shape) == len(spec.item_shape) and all(
            want in (-1, length) for length, want in zip(block.item_shape, spec.item_shape, strict=True)
        )
        if not fits:
            shapes = f"{list(block.item_shape)}, the signature says {list(spec.item_shape)}"
            return f"output {block.name} has items of shape {shapes}"
    return ""


def _finite_rows(segment: Segment, version: ModelVersion | None, row_items: Array) -> Array:
    finite = np.ones(segment.num_rows, bool)
    allowed = set() if version is None else {spec.name for spec in version.outputs if spec.allow_nan}
    for block in segment.outputs:
        if block.datatype in FLOATING and block.name not in allowed:
            finite &= _rows_finite(block, row_items)
    return finite


def _rows_finite(block: TensorBlock, row_items: Array) -> Array:
    values = block_array(block)
    finite = is_finite(block.datatype, values)
    if finite.all():
        return np.ones(len(row_items), bool)
    per_item = finite.reshape(len(values), -1).all(axis=1)
    owner = np.repeat(np.arange(len(row_items)), row_items)
    bad = np.bincount(owner, weights=~per_item, minlength=len(row_items)) > 0
    return np.asarray(~bad)


def _tick(state: ValidatorState, now_us: int, params: ValidatorParams) -> tuple[ValidatorState, Effects]:
    effects: list[WriteCheckpoint | ScanRequests | NoteShadows] = []
    if state.waiting is not None and (state.waiting.rows or state.waiting.copies):
        waiting, said = expired(state.waiting, state.topic_id, state.partition, now_us)
        state = replace(state, waiting=waiting)
        effects += said
    if now_us - state.checkpoint_us >= CHECKPOINT_US:
        low, bits = state.terminals.to_bits()
        mark = (low, state.results_offset)
        if mark != state.written:
            checkpoint = LedgerCheckpoint(
                state.topic_id, state.partition, low, bits, state.results_offset, state.num_reaped, now_us
            )
            effects.append(WriteCheckpoint(checkpoint))
        state = replace(state, checkpoint_us=now_us, written=mark)
    if not state.scanning and now_us - state.scan_us >= SCAN_US:
        low = state.terminals.low_watermark
        stuck = low == state.stuck_low
        state = replace(state, scan_us=now_us, stuck_low=low, scanning=stuck)
        if stuck:
            effects.append(ScanRequests(low, low + SCAN_LENGTH, now_us - params.give_up_us))
    return state, tuple(effects)


def _reap(state: ValidatorState, scanned: Scanned, now_us: int) -> tuple[ValidatorState, Effects]:
    """End every scanned request without a result; offsets where no request stands are gaps."""
    everything = np.arange(scanned.first, scanned.end, dtype=np.int64)
    gaps = np.setdiff1d(everything, scanned.offsets)
    terminals = state.terminals.mark_set(gaps[state.terminals.open_mask(gaps)]) if len(gaps) else state.terminals
    if scanned.frame is None:
        return replace(state, terminals=terminals), ()
    rows = np.flatnonzero(terminals.open_mask(scanned.offsets))
    if not len(rows):
        return replace(state, terminals=terminals), ()
    offsets = scanned.offsets[rows]
    last_answered = state.terminals.highest_set  # before the gaps: a marker behind a request overtakes nothing
    effects = []
    for overtaken, status, code, sentence in (
        (True, ERROR, "lost", "the request was lost on its way and ended by the reaper"),
        (False, EXPIRED, "deadline_exceeded", "nothing processed the request before its deadline"),
    ):
        mine = rows[(offsets < last_answered) == overtaken]
        if len(mine):
            errors = [RowError(at, code, sentence) for at in range(len(mine))]
            effects.append(Answer(end_rows(take(scanned.frame, mine), status, errors), now_us, reaped=True))
    return replace(state, terminals=terminals.mark_pending(offsets)), tuple(effects)


VALIDATOR = AgentSpec(
    name="validator",
    consumes=("inference.executed",),
    watches=("memory.events",),
    emits=("inference.results", "inference.ledger-checkpoints", "inference.shadow"),
    initial=lambda state: state,
    decide=decide,
    tick_ms=1000,
    state_per="partition",
    params=ValidatorParams(),
)

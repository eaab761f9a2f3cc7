"""Copies of shadowed rows beside their rows: what the Validator keeps of either until the other is there. Pure.

Of the rows that belong to a shadow's share the Validator remembers outcome and outputs' digest, and of each copy too;
who comes second makes a line of a ``ShadowComparison``. What waited for ``WAIT_US`` waits no more: a copy is then noted
alone, a row counts as one of which no copy was heard. So does the oldest where more than ``MOST_WAITING`` wait. All
this is forgotten with a take-over, and a copy that is executed twice may be noted twice: readers go by the coordinate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from agents.outputs import Outputs, agreement, outputs_of
from agents.shadow import chosen_rows
from schemas.frame import InferenceFrame, Segment
from schemas.shadow import NO_DIGEST, UNKNOWN, ShadowComparison
from streams.columns import OK, request_ids, segment_starts
from streams.frame_effects import NoteShadows
from streams.memory_view import MemoryView
from streams.shadow_view import planned_since, shadows

WAIT_US: Final = 10_000_000
MOST_WAITING: Final = 4_096
_NOTHING: Final = Outputs(NO_DIGEST, ())
_MOST_US: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Half:
    """What came of a row, or of its copy. ``shadow``: the version that copies were meant for, or that ran this one."""

    model: str
    version: str
    shadow: str
    request_id: bytes
    status: int
    latency_us: int
    run_us: int
    outputs: Outputs
    since_us: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows and copies by their offset, oldest first, whose other half is not there yet."""

    rows: Mapping[int, Half] = field(default_factory=lambda: MappingProxyType({}))
    copies: Mapping[int, Half] = field(default_factory=lambda: MappingProxyType({}))


def rows_answered(
    waiting: Waiting, frame: InferenceFrame, memory: MemoryView, now_us: int
) -> tuple[Waiting, tuple[NoteShadows, ...]]:
    """Take the rows of a gated frame that belong to a shadow's share and were given to an executor."""
    wanted = shadows(memory)
    starts = segment_starts(frame)
    chosen = [row for row in chosen_rows(frame, wanted) if _ran(frame, _segment_of(starts, row, frame), memory)]
    if not chosen:
        return waiting, ()
    halves = _halves(frame, chosen, {model: each.version for model, each in wanted.items()}, now_us)
    pairs: list[tuple[int, Half, Half | None]] = []
    rows, copies = dict(waiting.rows), dict(waiting.copies)
    for offset, half in halves:
        copy = copies.get(offset)
        if copy is not None and copy.model == half.model:
            pairs.append((offset, copies.pop(offset), half))
        else:
            rows[offset] = half
    return _given_up(rows, copies, pairs, (frame.topic_id, frame.partition), now_us)


def copies_executed(waiting: Waiting, frame: InferenceFrame, now_us: int) -> tuple[Waiting, tuple[NoteShadows, ...]]:
    """Take a gated frame of copies."""
    pairs: list[tuple[int, Half, Half | None]] = []
    rows, copies = dict(waiting.rows), dict(waiting.copies)
    for offset, half in _halves(frame, range(len(frame.statuses)), {}, now_us):
        row = rows.get(offset)
        if row is not None and (row.model, row.shadow) == (half.model, half.version):
            pairs.append((offset, half, rows.pop(offset)))
        else:
            copies[offset] = half
    return _given_up(rows, copies, pairs, (frame.topic_id, frame.partition), now_us)


def expired(waiting: Waiting, topic_id: bytes, partition: int, now_us: int) -> tuple[Waiting, tuple[NoteShadows, ...]]:
    """Give up what waited too long, or since a later time than now: then the clock was set back."""
    return _given_up(dict(waiting.rows), dict(waiting.copies), [], (topic_id, partition), now_us)


def _segment_of(starts: list[int], row: int, frame: InferenceFrame) -> Segment:
    number = int(np.searchsorted(starts, row, side="right")) - 1
    return frame.segments[number]


def _ran(frame: InferenceFrame, segment: Segment, memory: MemoryView) -> bool:
    """Whether a row was in an executor, by the plan that names the shadow or a later one."""
    is_served = bool(segment.executor) and not segment.cached
    return is_served and frame.memory_sequence >= planned_since(memory, segment.model)


def _halves(
    frame: InferenceFrame, chosen: Iterable[int], meant_for: Mapping[str, str], now_us: int
) -> list[tuple[int, Half]]:
    """Offset and half of the chosen rows."""
    ids, offsets = request_ids(frame), np.frombuffer(frame.offsets, "<i8")
    ends = np.concatenate(([0], np.cumsum(np.frombuffer(frame.row_items, "<u2"), dtype=np.int64)))
    latency_us = _bounded_us(frame.executed_us - frame.routed_us)
    starts = segment_starts(frame)
    by_segment: dict[int, list[int]] = {}
    for row in chosen:
        by_segment.setdefault(int(np.searchsorted(starts, row, side="right")) - 1, []).append(row)
    found: list[tuple[int, Half]] = []
    for number, rows in by_segment.items():
        segment = frame.segments[number]
        base, last = int(ends[starts[number]]), int(ends[starts[number + 1]])
        well = [row for row in rows if frame.statuses[row] == OK]
        items = [(int(ends[row]) - base, int(ends[row + 1]) - base) for row in well]
        outputs = dict(zip(well, outputs_of(segment, items, last - base), strict=True)) if well else {}
        for row in rows:
            half = Half(
                segment.model, segment.version, meant_for.get(segment.model, segment.version), ids[row],
                frame.statuses[row], latency_us, _bounded_us(segment.run_us), outputs.get(row, _NOTHING), now_us,
            )  # fmt: skip
            found.append((int(offsets[row]), half))
    return found


def _given_up(
    rows: dict[int, Half],
    copies: dict[int, Half],
    pairs: list[tuple[int, Half, Half | None]],
    place: tuple[bytes, int],
    now_us: int,
) -> tuple[Waiting, tuple[NoteShadows, ...]]:
    """Without what is too old or too much, and what there is to say of it and of ``pairs`` (copy first)."""
    unheard: dict[tuple[str, str, str], int] = {}
    for offset in _overdue(rows, now_us):
        row = rows.pop(offset)
        key = (row.model, row.shadow, row.version)
        unheard[key] = unheard.get(key, 0) + 1
    pairs += [(offset, copies.pop(offset), None) for offset in _overdue(copies, now_us)]
    grouped: dict[tuple[str, str, str], list[tuple[int, Half, Half | None]]] = {key: [] for key in unheard}
    for pair in pairs:
        _, copy, row_half = pair
        grouped.setdefault((copy.model, copy.version, "" if row_half is None else row_half.version), []).append(pair)
    said = tuple([_said(key, each, unheard.get(key, 0), place, now_us) for key, each in grouped.items()])
    return Waiting(MappingProxyType(rows), MappingProxyType(copies)), (NoteShadows(said),) if said else ()


def _overdue(halves: dict[int, Half], now_us: int) -> list[int]:
    """Offsets of what waited too long, and of the oldest above the bound: they stand in the order they came in."""
    found: list[int] = []
    for offset, half in halves.items():
        is_waited_for = half.since_us <= now_us < half.since_us + WAIT_US
        if is_waited_for and len(halves) - len(found) <= MOST_WAITING:
            break
        found.append(offset)
    return found


def _said(
    key: tuple[str, str, str],
    pairs: list[tuple[int, Half, Half | None]],
    num_unheard: int,
    place: tuple[bytes, int],
    now_us: int,
) -> ShadowComparison:
    copies = [copy for _, copy, _ in pairs]
    rows = [row for _, _, row in pairs]

    def column(values: list[int], dtype: str) -> bytes:
        return np.array(values, dtype).tobytes()

    return ShadowComparison(
        *(*key, *place, now_us, num_unheard),
        offsets=column([offset for offset, _, _ in pairs], "<i8"),
        id_lengths=bytes([len(copy.request_id) for copy in copies]),
        ids=b"".join([copy.request_id for copy in copies]),
        statuses=bytes([copy.status for copy in copies]),
        primary_statuses=bytes([0 if row is None else row.status for row in rows]),
        latencies_us=column([copy.latency_us for copy in copies], "<i4"),
        primary_latencies_us=column([0 if row is None else row.latency_us for row in rows], "<i4"),
        runs_us=column([copy.run_us for copy in copies], "<i4"),
        primary_runs_us=column([0 if row is None else row.run_us for row in rows], "<i4"),
        digests=b"".join([copy.outputs.digest for copy in copies]),
        primary_digests=b"".join([NO_DIGEST if row is None else row.outputs.digest for row in rows]),
        agreements=bytes([_agreement(copy, row) for _, copy, row in pairs]),
    )


def _agreement(copy: Half, row: Half | None) -> int:
    if row is None or copy.status != OK or row.status != OK:
        return UNKNOWN
    return agreement(copy.outputs, row.outputs)


def _bounded_us(value: int) -> int:
    return min(max(value, 0), _MOST_US)

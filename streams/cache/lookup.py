"""What is asked of the cache for a frame, what came back, and the frames of rows that are answered by it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, Segment
from streams.arrange import Cut, arranged
from streams.cache.values import Entry, is_whole, segment_of, widths_of
from streams.columns import OK, Array, segment_starts
from streams.memory_view import MemoryView, model_version

MAX_FRAME_BYTES: Final = 1 << 20
MAX_FRAME_SEGMENTS: Final = 500
"""Answers of different executors are segments of their own, which cost more than rows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows of one segment that one version answers: their numbers within the segment, and a key (32 bytes) of each.

    ``ttl_us``: age from which on an answer counts no more.
    """

    segment: int
    model: str
    version: str
    rows: tuple[int, ...]
    fields: tuple[bytes, ...]
    ttl_us: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """All that is asked for one frame. ``digests``: 16 bytes for each of its rows, zeros where nothing is asked."""

    asked: tuple[Asked, ...]
    digests: bytes


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What came back: per ``lookup.asked`` an answer or None for each of its rows."""

    lookup: Lookup
    entries: tuple[tuple[Entry | None, ...], ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one segment that are answered by entries with one provenance."""

    asked: Asked
    rows: tuple[int, ...]
    entries: tuple[Entry, ...]
    num_bytes: int


def answered(
    frame: InferenceFrame, looked_up: LookedUp, memory: MemoryView, late: Array, now_us: int
) -> tuple[Array, list[InferenceFrame]]:
    """Which rows (bool) are answered by what was looked up, and their executed frames.

    A row in ``late`` is not, nor one whose answer is not of the version's signature.
    """
    starts = segment_starts(frame)
    items, is_late = np.frombuffer(frame.row_items, "<u2").tolist(), late.tolist()
    hits = np.zeros(len(late), bool)
    groups: list[_Group] = []
    for asked, entries in zip(looked_up.lookup.asked, looked_up.entries, strict=True):
        version = model_version(memory, asked.model, asked.version)
        if version is None:
            continue
        first = starts[asked.segment]
        by_made: dict[int, list[tuple[int, Entry]]] = {}
        for row, entry in zip(asked.rows, entries, strict=True):
            if entry is not None and entry.items == items[first + row] and not is_late[first + row]:
                by_made.setdefault(id(entry.made), []).append((row, entry))
        for found in by_made.values():
            widths = widths_of(found[0][1].made, version)
            whole = [] if widths is None else [pair for pair in found if is_whole(pair[1], widths)]
            hits[[first + row for row, _ in whole]] = True
            groups += _groups(asked, whole)
    return hits, [_frame(frame, part, memory.sequence, now_us) for part in _parts(groups)]


def _groups(asked: Asked, found: Sequence[tuple[int, Entry]]) -> Iterator[_Group]:
    """Answers of one provenance, in parts that fit a frame each."""
    mine: list[tuple[int, Entry]] = []
    size = 0
    for row, entry in found:
        if mine and size + entry.num_bytes > MAX_FRAME_BYTES:
            yield _group(asked, mine, size)
            mine, size = [], 0
        mine.append((row, entry))
        size += entry.num_bytes
    if mine:
        yield _group(asked, mine, size)


def _group(asked: Asked, mine: Sequence[tuple[int, Entry]], num_bytes: int) -> _Group:
    return _Group(asked, tuple([row for row, _ in mine]), tuple([entry for _, entry in mine]), num_bytes)


def _parts(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    part: list[_Group] = []
    size = 0
    for group in groups:
        if part and (size + group.num_bytes > MAX_FRAME_BYTES or len(part) >= MAX_FRAME_SEGMENTS):
            yield part
            part, size = [], 0
        part.append(group)
        size += group.num_bytes
    if part:
        yield part


def _frame(frame: InferenceFrame, groups: Sequence[_Group], sequence: int, now_us: int) -> InferenceFrame:
    """The groups' rows as an executed frame: routed now by the memory of now, executed never."""
    bare = replace(frame, segments=tuple([_bare(segment) for segment in frame.segments]), input_digests=None)
    part = arranged(bare, [Cut(group.asked.segment, group.rows) for group in groups])
    segments = [segment_of(group.asked.model, group.asked.version, group.entries) for group in groups]
    statuses = bytes([OK]) * sum(len(group.rows) for group in groups)
    return replace(
        part, segments=tuple(segments), statuses=statuses, memory_sequence=sequence, routed_us=now_us, executed_us=0
    )


def _bare(segment: Segment) -> Segment:
    return Segment(segment.model, segment.version, segment.cohort, segment.num_rows)

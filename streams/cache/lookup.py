"""What is asked of the cache for a frame, what came back, and the frames of rows that are answered by it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame, Segment
from streams.arrange import Cut, arranged
from streams.cache.values import Entry, fits, segment_of
from streams.columns import OK, Array, segment_starts
from streams.memory_view import MemoryView, model_version

MAX_FRAME_BYTES: Final = 1 << 20
MAX_FRAME_SEGMENTS: Final = 500
"""Answers of different batches are segments of their own, which cost more than rows."""


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

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.entries)


def answered(
    frame: InferenceFrame, looked_up: LookedUp, memory: MemoryView, late: Array, now_us: int
) -> tuple[Array, list[InferenceFrame]]:
    """Which rows (bool) are answered by what was looked up, and their executed frames.

    A row in ``late`` is not, nor one whose answer is not of the version's signature.
    """
    starts = segment_starts(frame)
    items = np.frombuffer(frame.row_items, "<u2").tolist()
    hits = np.zeros(len(late), bool)
    groups: list[_Group] = []
    for asked, entries in zip(looked_up.lookup.asked, looked_up.entries, strict=True):
        version = model_version(memory, asked.model, asked.version)
        if version is None:
            continue
        first = starts[asked.segment]
        found = [
            (row, entry)
            for row, entry in zip(asked.rows, entries, strict=True)
            if entry is not None and not late[first + row] and fits(entry, version, items[first + row])
        ]
        hits[[first + row for row, _ in found]] = True
        groups += _groups(asked, found)
    return hits, [_frame(frame, part, memory.sequence, now_us) for part in _parts(groups)]


def _groups(asked: Asked, found: Sequence[tuple[int, Entry]]) -> list[_Group]:
    """One group per provenance, within the bytes of a frame."""
    by_made: dict[int, list[tuple[int, Entry]]] = {}
    sizes: dict[int, int] = {}
    groups: list[_Group] = []
    for row, entry in found:
        key, size = id(entry.made), entry.num_bytes
        mine = by_made.setdefault(key, [])
        if mine and sizes[key] + size > MAX_FRAME_BYTES:
            groups.append(_group(asked, mine))
            mine = by_made[key] = []
            sizes[key] = 0
        sizes[key] = sizes.get(key, 0) + size
        mine.append((row, entry))
    return groups + [_group(asked, mine) for mine in by_made.values()]


def _group(asked: Asked, mine: Sequence[tuple[int, Entry]]) -> _Group:
    return _Group(asked, tuple([row for row, _ in mine]), tuple([entry for _, entry in mine]))


def _parts(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    part: list[_Group] = []
    size = 0
    for group in groups:
        num_bytes = group.num_bytes
        if part and (size + num_bytes > MAX_FRAME_BYTES or len(part) >= MAX_FRAME_SEGMENTS):
            yield part
            part, size = [], 0
        part.append(group)
        size += num_bytes
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

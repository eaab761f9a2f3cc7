"""The rows that wait for one session with one signature, and how a batch is taken from them; pure.

Inside a queue goes class, then priority, so that fresh urgent rows pass old ones that rose to their class, then first
come, first served.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from executors.profile import Profile, Version
from executors.row_slice import RowSlice

PRIORITIES: Final = 10
AGE_US: Final = 250_000
"""Waiting time for which a row rises one class."""

Block = tuple[str, tuple[int, ...], int]
"""An input's name, item shape and bytes per element."""


class BatchKey(NamedTuple):
    """What may ride in one batch: ``signature`` tells inputs with different free axes apart."""

    model: str
    version: str
    signature: tuple[Block, ...]


@dataclass(eq=False, slots=True)
class Batch:
    """What to run next, in row order of its slices, and the rows to answer EXPIRED; either may be empty.

    ``time_us``: what the profile says of ``num_items``.
    """

    key: BatchKey
    slices: list[RowSlice]
    num_items: int
    expired: list[RowSlice]
    time_us: float = 0.0


@dataclass(slots=True)
class ModelLoad:
    """What waits for one model, all versions and signatures."""

    num_items: int = 0
    num_bytes: int = 0


@dataclass(eq=False, slots=True)
class RowQueue:
    """Waiting slices of one key by priority (no empty lanes), its class, and what the round robin owes it."""

    key: BatchKey
    of: Version
    item_bytes: int
    load: ModelLoad
    lanes: dict[int, deque[RowSlice]] = field(default_factory=dict)
    num_items: int = 0
    deficit_us: float = 0.0
    urgency: int = 0

    def urgency_at(self, now_us: int) -> int:
        """The class of its most urgent row."""
        return min([_aged(priority, lane[0], now_us) for priority, lane in self.lanes.items()])

    def ordered(self, now_us: int) -> list[int]:
        """Its priorities, most urgent first."""
        if len(self.lanes) == 1:
            return list(self.lanes)
        return sorted(self.lanes, key=lambda priority: (_aged(priority, self.lanes[priority][0], now_us), priority))


def _aged(priority: int, oldest: RowSlice, now_us: int) -> int:
    return max(0, priority - max(0, now_us - oldest.queued_us) // AGE_US)


def take(queue: RowQueue, profile: Profile, now_us: int, below: int = PRIORITIES) -> Batch:
    """Fill one batch from rows of a priority ``below``, dropping on the way what cannot be done in time."""
    cap = profile.cap
    finish_us = now_us + profile.time_us(min(queue.num_items, cap))
    chosen: list[RowSlice] = []
    expired: list[RowSlice] = []
    room, riding = cap, False
    for priority in queue.ordered(now_us):
        if priority >= below:
            continue
        if chosen and not riding:
            riding = True
            room -= cap - profile.ride_cap
            if room <= 0:
                break
        lane = queue.lanes[priority]
        while lane and room > 0:
            row_slice = lane.popleft()
            if row_slice.num_items <= room and row_slice.earliest_us >= finish_us:  # nearly always
                chosen.append(row_slice)
                room -= row_slice.num_items
                continue
            room = _take_some(lane, row_slice, finish_us, room, cap, chosen, expired)
        if not lane:
            del queue.lanes[priority]
        if room <= 0:
            break
    return Batch(queue.key, chosen, sum([row_slice.num_items for row_slice in chosen]), expired)


def _take_some(
    lane: deque[RowSlice], row_slice: RowSlice, finish_us: float, room: int, cap: int,
    chosen: list[RowSlice], expired: list[RowSlice],
) -> int:  # fmt: skip
    """Take what fits of a slice that does not fit or holds late rows; what room is left (0: the batch is full)."""
    late, punctual = row_slice.sieve(finish_us)
    expired += late
    for position, piece in enumerate(punctual):
        fitting, rest = piece.split(room)
        if fitting is None and room == cap and not chosen:  # one row above the cap is a batch by itself
            fitting, rest = piece.part(0, 1), piece.part(1, piece.num_rows) if piece.num_rows > 1 else None
        if fitting is not None:
            chosen.append(fitting)
            room -= fitting.num_items
        if rest is not None:
            lane.extendleft(reversed([rest, *punctual[position + 1 :]]))
            return 0
    return max(room, 0)

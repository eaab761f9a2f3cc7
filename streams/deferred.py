"""Frames that wait for a time or for memory to change, and when which of them are decided again; pure.

When memory changed all of them are due, in the order in which they came, so that no later frame is decided by a newer
view than an earlier one; else those whose time has come. What has no room yet is put back, and is due with the next
look.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Final

from schemas.frame import InferenceFrame
from streams.ordering import Entry

UNSEEN: Final = -1
"""Not a sequence of memory: what waits has to be looked at again."""


@dataclass(eq=False, slots=True)
class DeferredFrame:
    """A frame with the entry that its input holds; ``number`` tells those of one time apart, as they came."""

    until_us: int
    number: int
    frame: InferenceFrame
    entry: Entry[Any]

    def __lt__(self, other: DeferredFrame) -> bool:
        return (self.until_us, self.number) < (other.until_us, other.number)


class DeferredFrames:
    """What waits in one run."""

    def __init__(self) -> None:
        self._heap: list[DeferredFrame] = []
        self._num_pushed = 0
        self._sequence = UNSEEN

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def lacks_room(self) -> bool:
        """Whether frames were put back for want of room."""
        return bool(self._heap) and self._sequence == UNSEEN

    def frames(self) -> list[InferenceFrame]:
        """What waits, in no particular order."""
        return [each.frame for each in self._heap]

    def push(self, frame: InferenceFrame, until_us: int, entry: Entry[Any], sequence: int) -> None:
        """Have a frame wait that was decided by memory at ``sequence``."""
        if not self._heap:
            self._sequence = sequence
        self._num_pushed += 1
        heapq.heappush(self._heap, DeferredFrame(until_us, self._num_pushed, frame, entry))

    def changed(self, sequence: int) -> bool:
        """Whether all that waits is due because memory changed, or because there was no room the last time."""
        return bool(self._heap) and sequence != self._sequence

    def due(self, now_us: int, sequence: int) -> list[DeferredFrame]:
        """Take out what is due at a time and a sequence of memory, in the order to decide it in."""
        found: list[DeferredFrame] = []
        if sequence != self._sequence:
            found, self._heap = sorted(self._heap, key=_as_they_came), []
        else:
            while self._heap and self._heap[0].until_us <= now_us:
                found.append(heapq.heappop(self._heap))
        self._sequence = sequence
        return found

    def put_back(self, frames: list[DeferredFrame]) -> None:
        """There is no room for these yet."""
        self._sequence = UNSEEN
        for each in frames:
            heapq.heappush(self._heap, each)

    def next_us(self) -> int:
        """When the time of the next one has come; only while something waits."""
        return self._heap[0].until_us


def _as_they_came(held: DeferredFrame) -> tuple[int, int]:
    return held.entry.item.message.offset, held.number

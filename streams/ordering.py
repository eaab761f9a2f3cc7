"""Which inputs may be acknowledged: those in front of which nothing is still being worked on.

Faust would commit past an unfinished event if later ones are acknowledged first, so acknowledgements are given strictly
in order, each when all its effects are confirmed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """An item and how many of its parts are unfinished."""

    item: T
    outstanding: int = 0


@dataclass(slots=True)
class InOrder(Generic[T]):
    """A window of started items; ``finished`` ones at the front leave in the order they came."""

    entries: deque[Entry[T]] = field(default_factory=deque)

    def start(self, item: T) -> Entry[T]:
        """Add an item behind all others, with one outstanding part (its own decision)."""
        entry = Entry(item, 1)
        self.entries.append(entry)
        return entry

    def add(self, entry: Entry[T], parts: int = 1) -> None:
        """Note further outstanding parts of an item."""
        entry.outstanding += parts

    def finish(self, entry: Entry[T]) -> list[T]:
        """One part is done; return the items that may be acknowledged now, oldest first."""
        entry.outstanding -= 1
        ready: list[T] = []
        while self.entries and self.entries[0].outstanding == 0:
            ready.append(self.entries.popleft().item)
        return ready

    def unfinished(self) -> list[T]:
        """Items that were started and not yet released, oldest first."""
        return [entry.item for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

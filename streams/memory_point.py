"""Memory as it stood at a sequence, each key with the event that made it so. Pure, and without the history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from schemas.memory import MemoryEvent
from streams.errors import PoisonRecordError
from streams.memory_fold import StoredEvent, entry_of, void_reason
from streams.memory_view import MemoryHead, MemoryView


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and its offset in ``memory.events``."""

    offset: int
    event: MemoryEvent


class MemoryPoint:
    """Takes the records of ``memory.events`` from the first on, in order, until ``sequence`` is reached.

    Records that are void to readers are passed over. Only keys that are there are held, with their newest event.
    """

    def __init__(self, decode: Callable[[bytes | None], MemoryEvent], sequence: int) -> None:
        self._decode = decode
        self._sequence = sequence
        self._head = MemoryHead()
        self._time_us = 0
        self._made_by: dict[str, LoggedEvent] = {}

    def record(self, offset: int, value: bytes | None) -> bool:
        """Take a record; False when no further one is wanted."""
        if self.is_reached:
            return False
        try:
            stored = StoredEvent.of(self._decode(value), value or b"")
        except PoisonRecordError:
            return True
        event = stored.event
        if void_reason(self._head, event) is None:
            self._head, self._time_us = MemoryHead(event.sequence, stored.value_hash), event.time_us
            if event.body is None:
                self._made_by.pop(event.key, None)
            else:
                self._made_by[event.key] = LoggedEvent(offset, event)
        return not self.is_reached

    @property
    def is_reached(self) -> bool:
        """Whether memory stands at the sequence; False at the end of a log that does not have it."""
        return self._head.sequence >= self._sequence

    def made_by(self, key: str) -> LoggedEvent | None:
        """The event that gave ``key`` its value, or None where the key was not there."""
        return self._made_by.get(key)

    @property
    def view(self) -> MemoryView:
        """Memory at this point, for the readers of ``streams.memory_view``."""
        entries = {
            key: entry_of(logged.event, logged.event.body)
            for key, logged in self._made_by.items()
            if logged.event.body is not None
        }
        return MemoryView(self._head.sequence, self._head.last_hash, self._time_us, MappingProxyType(entries))

"""The pure fold of ``memory.events``: memory as events say it, and as it stood at a sequence or time.

An event is accepted only if its sequence is the next and its ``prev_hash`` is the SHA-256 of the previous accepted
event's record value as stored. Anything else is void: it changes nothing, and the caller counts and logs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from schemas.memory import MemoryEntry, MemoryEvent
from streams.memory_view import MemoryHead, MemoryView


class Linked(Protocol):
    """A record of a hash chain, as an event of memory is one."""

    @property
    def sequence(self) -> int:
        """Number in the chain, from 1."""

    @property
    def prev_hash(self) -> bytes:
        """SHA-256 of the value before, as stored."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A decoded event with the SHA-256 (32 bytes) of its record value as stored."""

    event: MemoryEvent
    value_hash: bytes

    @classmethod
    def of(cls, event: MemoryEvent, stored: bytes) -> StoredEvent:
        """Pair an event with its stored bytes."""
        return cls(event, hashlib.sha256(stored).digest())


def void_reason(head: MemoryHead, event: Linked) -> str | None:
    """Why ``event`` does not follow ``head``, or None if it does."""
    if event.sequence != head.sequence + 1:
        return f"sequence {event.sequence} does not follow {head.sequence}"
    if event.prev_hash != head.last_hash:
        return f"prev_hash of sequence {event.sequence} is not the hash of the event before it"
    return None


def extend(view: MemoryView, events: Iterable[StoredEvent]) -> tuple[MemoryView, tuple[str, ...]]:
    """Fold many events with one copy of the entries; returns the view and the reasons of the void ones."""
    entries, head, time_us = dict(view.entries), view.head, view.time_us
    voids: list[str] = []
    for stored in events:
        reason = void_reason(head, stored.event)
        if reason is not None:
            voids.append(reason)
            continue
        _enter(entries, stored.event)
        head, time_us = MemoryHead(stored.event.sequence, stored.value_hash), stored.event.time_us
    if head == view.head:
        return view, tuple(voids)
    return MemoryView(head.sequence, head.last_hash, time_us, MappingProxyType(entries)), tuple(voids)


def apply(view: MemoryView, event: MemoryEvent, stored: bytes) -> tuple[MemoryView, str | None]:
    """Fold one event given its record value as ``stored``; the second value says why it is void, else None."""
    folded, voids = extend(view, (StoredEvent.of(event, stored),))
    return folded, voids[0] if voids else None


def at_sequence(events: Iterable[StoredEvent], sequence: int) -> MemoryView:
    """Memory as it stood after event ``sequence``."""
    return extend(MemoryView(), _until(events, lambda event: event.sequence > sequence))[0]


def at_time(events: Iterable[StoredEvent], time_us: int) -> MemoryView:
    """Memory as it stood at ``time_us``: sequence is the authority, so the fold ends before the first later event."""
    return extend(MemoryView(), _until(events, lambda event: event.time_us > time_us))[0]


def entry_of(event: MemoryEvent, body: str) -> MemoryEntry:
    """The value of ``event.key`` in ``memory.state``."""
    return MemoryEntry(event.key, event.version, event.sequence, body, event.time_us)


def _enter(entries: dict[str, MemoryEntry], event: MemoryEvent) -> None:
    if event.body is None:
        entries.pop(event.key, None)
    else:
        entries[event.key] = entry_of(event, event.body)


def _until(events: Iterable[StoredEvent], past: Callable[[MemoryEvent], bool]) -> Iterable[StoredEvent]:
    """The events before the first one in the chain that is past the point; void ones are passed on and judged later."""
    head = MemoryHead()
    for stored in events:
        if void_reason(head, stored.event) is None:
            if past(stored.event):
                return
            head = MemoryHead(stored.event.sequence, stored.value_hash)
        yield stored

"""The writer of memory: appends events to ``memory.events`` and rewrites their keys in ``memory.state``.

The chain is filled in here: ``prev_hash`` is the hash of the accepted event before, as stored. Opening claims both
topics, folds the events and rewrites every key whose state lags them, so a kill between the two writes heals itself.
``append`` is idempotent by sequence and command id. When a write fails or its outcome is unknown, the store claims and
folds anew and looks for the command before it writes it once more.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final

from schemas.memory import MemoryEntry, MemoryEvent
from streams.control.journal import RecordCodec
from streams.errors import FencedError, InvariantError, PoisonRecordError, RetriableError
from streams.memory_fold import StoredEvent, apply, extend, void_reason
from streams.memory_view import MemoryHead, MemoryView
from streams.partition_log import LogWriter, PartitionLog
from streams.topics import full_name

log = logging.getLogger(__name__)

EVENTS: Final = "memory.events"
STATE: Final = "memory.state"
ATTEMPTS: Final = 3
FOLD_SLICE: Final = 500
REMEMBERED: Final = 10_000  # commands by sequence; what is sent again is at most the last batch


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """Names of the two topics on the broker; tests give their own."""

    events: str = full_name(EVENTS)
    state: str = full_name(STATE)


class EventStore:
    """Sole writer of memory; one task at a time."""

    def __init__(self, partitions: PartitionLog, codec: RecordCodec, place: MemoryPlace | None = None) -> None:
        self._partitions = partitions
        self._codec = codec
        self._place = place or MemoryPlace()
        self._events: LogWriter | None = None
        self._state: LogWriter | None = None
        self.view = MemoryView()
        self.commands: dict[int, str] = {}
        self.voids = 0

    @property
    def sequence(self) -> int:
        """Sequence of the last accepted event."""
        return self.view.sequence

    async def open(self) -> MemoryView:
        """Claim both topics, fold, heal ``memory.state``; returns memory as it stands."""
        await self.stop()
        self._events = await self._partitions.claim(self._place.events, 0)
        self._state = await self._partitions.claim(self._place.state, 0)
        await self._fold()
        await self._heal(self._state)
        return self.view

    async def append(self, event: MemoryEvent) -> int:
        """Append ``event`` (its ``prev_hash`` is ignored) unless it is there already; returns its sequence.

        Raises FencedError when another writer took over, RetriableError when the outcome stays unknown, and
        InvariantError when another command holds the event's sequence or the sequence leaves a gap.
        """
        for attempt in range(1, ATTEMPTS + 1):
            if self._is_stored(event):
                return event.sequence
            try:
                await self._write(event)
            except FencedError:
                raise
            except RetriableError as error:
                if attempt == ATTEMPTS:
                    raise
                log.warning("the outcome of memory event %d is unknown, folding anew: %s", event.sequence, error)
                await self.open()
            else:
                return event.sequence
        raise InvariantError("unreachable")

    async def stop(self) -> None:
        """Release both writers."""
        for writer in (self._events, self._state):
            if writer is not None:
                await writer.stop()
        self._events = self._state = None

    def _is_stored(self, event: MemoryEvent) -> bool:
        head = self.view.sequence
        if event.sequence > head + 1:
            raise InvariantError(f"memory event {event.sequence} leaves a gap behind {head}")
        if event.sequence == head + 1:
            return False
        owner = self.commands.get(event.sequence)
        if owner != event.command_id:
            raise InvariantError(f"memory event {event.sequence} belongs to {owner}, not to {event.command_id}")
        return True

    async def _write(self, event: MemoryEvent) -> None:
        if self._events is None or self._state is None:
            raise InvariantError("the event store is not open")
        chained = replace(event, prev_hash=self.view.last_hash)
        value = self._codec.encode(EVENTS, chained)
        await self._events.send(chained.key.encode(), value)
        self.view, void = apply(self.view, chained, value)
        if void is not None:
            raise InvariantError(f"our own memory event is void: {void}")
        self.commands[chained.sequence] = chained.command_id
        self.commands.pop(chained.sequence - REMEMBERED, None)
        await self._write_state(self._state, chained.key)

    async def _write_state(self, writer: LogWriter, key: str) -> None:
        entry = self.view.entries.get(key)
        await writer.send(key.encode(), None if entry is None else self._codec.encode(STATE, entry))

    async def _fold(self) -> None:
        events: list[StoredEvent] = []
        for number, record in enumerate(await self._partitions.read(self._place.events, 0)):
            if number % FOLD_SLICE == 0:
                await asyncio.sleep(0)  # a long history must not keep heartbeats from being sent
            try:
                events.append(StoredEvent.of(self._codec.decode(EVENTS, record.value), record.value or b""))
            except PoisonRecordError:
                self.voids += 1
        accepted, head = [], MemoryHead()
        for stored in events:
            if void_reason(head, stored.event) is None:
                accepted.append(stored)
                head = MemoryHead(stored.event.sequence, stored.value_hash)
        self.voids += len(events) - len(accepted)
        self.view, _ = extend(MemoryView(), accepted)
        self.commands = {stored.event.sequence: stored.event.command_id for stored in accepted[-REMEMBERED:]}

    async def _heal(self, writer: LogWriter) -> None:
        """Rewrite each key whose state is not what the events say."""
        states: dict[str, MemoryEntry | None] = {}
        for record in await self._partitions.read(self._place.state, 0):
            states[(record.key or b"").decode(errors="replace")] = self._entry(record.value)
        lagging = [key for key, entry in self.view.entries.items() if states.get(key) != entry]
        gone = [key for key, entry in states.items() if entry is not None and key not in self.view.entries]
        for key in (*lagging, *gone):
            await self._write_state(writer, key)
        if lagging or gone:
            log.info("memory.state lagged the events on %d keys and was rewritten", len(lagging) + len(gone))

    def _entry(self, value: bytes | None) -> MemoryEntry | None:
        try:
            entry: MemoryEntry | None = None if value is None else self._codec.decode(STATE, value)
        except PoisonRecordError:
            return None
        return entry

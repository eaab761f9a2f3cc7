"""Builders for tests of control agents: events, ticks, and a chain of memory events with their stored hashes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.model import ModelVersion
from streams.agent import TICK, Effects, Event, Publish, Tick
from streams.canonical import to_json
from streams.memory_fold import StoredEvent
from streams.memory_view import MemoryHead

SECOND = 1_000_000
HERE = RecordCoordinate("test", 0, 7)


def at(record: Any, now_us: int = SECOND, coordinate: RecordCoordinate = HERE, answers: Any = None) -> Event:
    """A record as an event."""
    return Event(record, coordinate, now_us, answers=answers)


def tick(now_us: int) -> Event:
    """The clock at ``now_us``."""
    return Event(Tick(), TICK, now_us)


def model_version(
    name: str = "digits", version: str = "v1.0.0", digest: str = "ab" * 32, batch: int = 64
) -> ModelVersion:
    """A registered version without tensors."""
    return ModelVersion(name, version, digest, 10, (), (), max_batch_size=batch)


def chained(effects: Effects, head: MemoryHead = MemoryHead()) -> list[StoredEvent]:  # noqa: B008
    """Memory events among ``effects``, with ``prev_hash`` filled in as the event store does."""
    events: list[StoredEvent] = []
    last = head.last_hash
    for effect in effects:
        if isinstance(effect, Publish) and isinstance(effect.record, MemoryEvent):
            event = replace(effect.record, prev_hash=last)
            events.append(StoredEvent.of(event, to_json(event).encode()))
            last = events[-1].value_hash
    return events

"""What the event store must do on every supplier of partitions: in memory, and on a real broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import pytest

from schemas.memory import MemoryEntry, MemoryEvent
from streams.codec import Codec, SchemaIds
from streams.control.event_store import EventStore, MemoryPlace
from streams.errors import FencedError, InvariantError
from streams.memory_fold import StoredEvent, at_sequence, extend
from streams.memory_view import MemoryView
from streams.partition_log import PartitionLog

CODEC = Codec(SchemaIds.local())


def event(sequence: int, key: str = "k", body: str | None = "1", version: int | None = None) -> MemoryEvent:
    """Event ``sequence`` of command ``c<sequence>``, 10 us apart."""
    return MemoryEvent(
        sequence, bytes(32), f"c{sequence}", "test", "Set", key, version or sequence, body, "why", (), sequence * 10
    )


class EventStoreContract(ABC):
    """The suite; subclasses give ``partitions`` and ``place`` (fresh topics)."""

    @pytest.fixture
    @abstractmethod
    def partitions(self) -> PartitionLog:
        """The supplier."""

    @pytest.fixture
    @abstractmethod
    def place(self) -> MemoryPlace:
        """Fresh topics."""

    @pytest.fixture
    def make(self, partitions: PartitionLog, place: MemoryPlace) -> Any:
        """Makes a store on the fresh topics."""
        return lambda: EventStore(partitions, CODEC, place)

    async def stored(self, partitions: PartitionLog, place: MemoryPlace) -> list[StoredEvent]:
        records = await partitions.read(place.events, 0)
        return [StoredEvent.of(CODEC.decode("memory.events", r.value), r.value or b"") for r in records]

    async def state(self, partitions: PartitionLog, place: MemoryPlace) -> dict[str, MemoryEntry]:
        found: dict[str, MemoryEntry] = {}
        for record in await partitions.read(place.state, 0):
            key = (record.key or b"").decode()
            if record.value is None:
                found.pop(key, None)
            else:
                found[key] = CODEC.decode("memory.state", record.value)
        return found

    async def test_events_form_a_chain_and_state_follows(
        self, make: Any, partitions: PartitionLog, place: MemoryPlace
    ) -> None:
        store = make()
        assert await store.open() == MemoryView()
        for each in (event(1, "a"), event(2, "b"), event(3, "a", "2"), event(4, "b", None)):
            assert await store.append(each) == each.sequence
        await store.stop()
        events = await self.stored(partitions, place)
        view, voids = extend(MemoryView(), events)
        assert voids == ()
        assert view == store.view
        assert await self.state(partitions, place) == view.entries == {"a": MemoryEntry("a", 3, 3, "2", 30)}
        assert set(at_sequence(events, 2).entries) == {"a", "b"}

    async def test_the_same_event_again_is_no_event(
        self, make: Any, partitions: PartitionLog, place: MemoryPlace
    ) -> None:
        store = make()
        await store.open()
        await store.append(event(1))
        await store.append(event(1))
        await store.stop()
        successor = make()
        await successor.open()
        assert await successor.append(event(1)) == 1
        await successor.stop()
        assert len(await self.stored(partitions, place)) == 1

    async def test_gaps_and_foreign_commands_are_refused(self, make: Any) -> None:
        store = make()
        await store.open()
        with pytest.raises(InvariantError, match="leaves a gap behind 0"):
            await store.append(event(2))
        await store.append(event(1))
        with pytest.raises(InvariantError, match="belongs to c1, not to other"):
            await store.append(replace(event(1), command_id="other"))
        await store.stop()

    async def test_a_predecessor_is_shut_out(self, make: Any, partitions: PartitionLog, place: MemoryPlace) -> None:
        old = make()
        await old.open()
        await old.append(event(1))
        new = make()
        await new.open()
        with pytest.raises(FencedError):
            await old.append(event(2))
        assert await new.append(replace(event(2), command_id="new")) == 2
        await old.stop()
        await new.stop()
        assert [s.event.command_id for s in await self.stored(partitions, place)] == ["c1", "new"]

    async def test_opening_rewrites_state_that_lags(
        self, make: Any, partitions: PartitionLog, place: MemoryPlace
    ) -> None:
        store = make()
        await store.open()
        for each in (event(1, "a"), event(2, "b"), event(3, "a", None)):
            await store.append(each)
        await store.stop()
        # What a kill between the two writes leaves behind, and worse: an old value, a missing key, one that is gone.
        writer = await partitions.claim(place.state, 0)
        await writer.send(b"a", CODEC.encode("memory.state", MemoryEntry("a", 1, 1, "1", 10)))
        await writer.send(b"b", None)
        await writer.stop()
        healed = make()
        await healed.open()
        await healed.stop()
        assert await self.state(partitions, place) == {"b": MemoryEntry("b", 2, 2, "1", 20)}

    async def test_void_events_are_passed_over(self, make: Any, partitions: PartitionLog, place: MemoryPlace) -> None:
        store = make()
        await store.open()
        await store.append(event(1))
        await store.stop()
        intruder = await partitions.claim(place.events, 0)
        await intruder.send(b"k", CODEC.encode("memory.events", event(2, body="forged")))
        await intruder.send(b"k", b"garbage")
        await intruder.stop()
        successor = make()
        await successor.open()
        assert successor.voids == 2
        assert await successor.append(event(2, body="true")) == 2
        await successor.stop()
        view, voids = extend(MemoryView(), (await self.stored_but_garbage(partitions, place)))
        assert (view.entries["k"].body, len(voids)) == ("true", 1)

    async def stored_but_garbage(self, partitions: PartitionLog, place: MemoryPlace) -> list[StoredEvent]:
        records = [r for r in await partitions.read(place.events, 0) if r.value != b"garbage"]
        return [StoredEvent.of(CODEC.decode("memory.events", r.value), r.value or b"") for r in records]

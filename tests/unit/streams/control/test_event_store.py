"""The event store when writes fail: nothing lost, nothing twice, and a clear end when it does not get better."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.control.event_store import ATTEMPTS, EventStore
from streams.errors import RetriableError
from streams.memory_fold import StoredEvent, extend
from streams.memory_view import MemoryView
from tests.support.event_store_contract import CODEC, event
from tests.support.partitions import MemoryPartitions


def stored(partitions: MemoryPartitions, place_events: str) -> list[StoredEvent]:
    records = partitions.log.scan(place_events, 0)
    return [StoredEvent.of(CODEC.decode("memory.events", r.value), r.value or b"") for r in records]


@given(st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
async def test_every_event_once_whatever_write_fails(lost: set[int], unknown: set[int]) -> None:
    partitions = MemoryPartitions()
    store = EventStore(partitions, CODEC)
    partitions.faults.lost, partitions.faults.unknown = lost, unknown
    pending = [event(n, key=f"k{n % 2}") for n in range(1, 6)]
    failures = 0
    while pending:
        try:
            await store.open()
            while pending:
                await store.append(pending[0])
                pending.pop(0)
        except RetriableError:
            failures += 1
            assert failures < 100
    events = stored(partitions, "isos.memory.events.v1")
    view, voids = extend(MemoryView(), events)
    assert [s.event.sequence for s in events] == [1, 2, 3, 4, 5]
    assert voids == ()
    assert view == store.view
    states = {r.key: r.value for r in partitions.log.scan("isos.memory.state.v1", 0)}
    assert {key: CODEC.decode("memory.state", value) for key, value in states.items()} == {
        key.encode(): entry for key, entry in view.entries.items()
    }


async def test_an_outcome_that_stays_unknown_is_raised() -> None:
    partitions = MemoryPartitions()
    store = EventStore(partitions, CODEC)
    await store.open()
    partitions.faults.lost = set(range(1, ATTEMPTS + 1))
    with pytest.raises(RetriableError):
        await store.append(event(1))
    assert await store.append(event(1)) == 1

"""What waits for a control agent under one assignment."""

from __future__ import annotations

from streams.control.generation import INBOX, Generation, Waiting
from streams.control.journal import TICK_INPUT
from streams.partition_log import LogRecord
from streams.silence import FedPartition


async def test_watched_records_wait_in_their_order_and_wake_the_agent() -> None:
    generation = Generation()
    records = [LogRecord(offset, b"k", b"v") for offset in (3, 5)]
    generation.hear("memory.events", records)
    assert [(each.given.topic, each.given.offset, each.event) for each in generation.watched] == [
        ("memory.events", 3, None),
        ("memory.events", 5, None),
    ]
    assert generation.wake.is_set()


async def test_nothing_is_awaited_of_faust_while_the_inbox_is_full() -> None:
    fed = FedPartition("isos.control.context.v1", 0)
    generation = Generation(fed={fed.topic: fed})
    assert generation.awaited == [fed]
    generation.inbox.extend([Waiting(TICK_INPUT)] * INBOX)
    assert generation.awaited == []

"""Columns from a real broker beside the records that aiokafka makes of the same log, and fetches on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.column_fetch import deliver_columns
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.record_columns import RecordColumns, columns_of
from tests.support.broker import unique

STAMPED = {"message.timestamp.type": "LogAppendTime"}


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A topic of two partitions whose records carry the broker's time."""
    name = unique("columns")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 2, 1, config=STAMPED)])[name].result(20)
    return name


def write(bootstrap: str, topic: str, values: list[bytes | None], partition: int = 0, **settings: Any) -> None:
    """Write records, some with keys and headers."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, **settings})
    for number, value in enumerate(values):
        headers = [("h", b"x"), ("none", None)] if number % 3 == 0 else None
        producer.produce(topic, value, b"k%d" % number if number % 2 else None, partition=partition, headers=headers)
    assert producer.flush(20) == 0


def write_transaction(bootstrap: str, topic: str, values: list[bytes], *, abort: bool) -> None:
    """Write records in a transaction of a producer of its own, in two batches."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": unique("tx")})
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
        assert producer.flush(20) == 0
    (producer.abort_transaction if abort else producer.commit_transaction)(20)


@contextlib.asynccontextmanager
async def reading(bootstrap: str, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
    client = consumer(Connection(bootstrap), **settings)
    await start(client, "reading")
    try:
        yield client
    finally:
        await stop_quietly(client)


async def everything(client: AIOKafkaConsumer, place: TopicPartition, first: int = 0) -> list[Any]:
    """Whatever stands in a partition from an offset on, in whichever form the consumer gives it."""
    client.assign([place])
    end = (await client.end_offsets([place]))[place]
    client.seek(place, first)
    found: list[Any] = []
    while await client.position(place) < end:
        for pieces in (await client.getmany(timeout_ms=200, max_records=3)).values():
            if isinstance(pieces[0], RecordColumns):
                columns = columns_of(place.topic, place.partition, pieces)
                found += [columns.record(at) for at in range(len(columns))]
            else:
                found += pieces
    return found


def told(records: list[Any]) -> list[tuple[Any, ...]]:
    return [(e.partition, e.offset, e.timestamp, e.key, e.value, tuple(e.headers)) for e in records]


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
@pytest.mark.parametrize("check_crcs", [True, False])
async def test_columns_are_the_records_of_the_log(bootstrap: str, topic: str, isolation: str, check_crcs: bool) -> None:
    write(bootstrap, topic, [b"plain-%d" % n for n in range(50)])
    write(bootstrap, topic, [bytes(400)] * 30, **{"compression.type": "gzip"})
    write_transaction(bootstrap, topic, [b"kept", b"kept too"], abort=False)
    write_transaction(bootstrap, topic, [b"gone", b"gone too"], abort=True)
    write(bootstrap, topic, [None, b"", b"last"], acks=1)
    write(bootstrap, topic, [b"x" * 600_000])  # more than a fetch holds by itself
    place = TopicPartition(topic, 0)
    settings = {"isolation_level": isolation, "check_crcs": check_crcs, "max_partition_fetch_bytes": 100_000}
    async with reading(bootstrap, **settings) as plain, reading(bootstrap, **settings) as columnar:
        deliver_columns(columnar)
        for first in (0, 7, 51, 84):
            expected = told(await bounded(everything(plain, place, first), 30, "records"))
            assert told(await bounded(everything(columnar, place, first), 30, "columns")) == expected
            assert len(expected) > 1


async def test_a_fetch_on_demand_brings_all_that_came_meanwhile(bootstrap: str, topic: str) -> None:
    place = TopicPartition(topic, 0)
    async with reading(bootstrap) as client:
        ask = deliver_columns(client, on_demand=True)
        client.assign([place])
        client.seek(place, 0)

        async def read() -> list[int]:
            ask()
            found = await client.getmany(timeout_ms=5_000, max_records=8)
            columns = columns_of(topic, 0, found[place])
            return [columns.first, columns.end]

        write(bootstrap, topic, [b"a"])
        assert await read() == [0, 1]
        ask()
        assert await client.getmany(timeout_ms=50) == {}  # idle, with a fetch under way
        write(bootstrap, topic, [b"a"])
        assert await read() == [1, 2]
        for n in range(1, 6):  # several batches
            write(bootstrap, topic, [b"b"])
            assert await client.getmany(timeout_ms=50) == {}, n  # nobody has asked
        assert await read() == [2, 7]
        waiting = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        write(bootstrap, topic, [b"c"])
        assert await bounded(waiting, 10, "a fetch that waits") == [7, 8]
        client.seek(place, 3)
        assert await read() == [3, 8]
        client.pause(place)
        ask()
        assert await client.getmany(timeout_ms=100) == {}
        client.resume(place)
        client.seek(place, 5)
        assert await read() == [5, 8]


class Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.places: set[TopicPartition] = set()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.places = set()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.places = set(assigned)


async def test_columns_across_a_rebalance(bootstrap: str, topic: str) -> None:
    """Two members share the partitions; what one had fetched and not handed on is read by the other."""
    for partition in (0, 1):
        write(bootstrap, topic, [b"v"] * 5, partition)
    group = {"group_id": unique("group"), "session_timeout_ms": 6_000, "heartbeat_interval_ms": 300}
    seen: set[tuple[int, int]] = set()

    async def drain(client: AIOKafkaConsumer, ask: Any) -> None:
        ask()
        for place, pieces in (await client.getmany(timeout_ms=100, max_records=8)).items():
            columns = columns_of(place.topic, place.partition, pieces)
            seen.update((place.partition, offset) for offset in range(columns.first, columns.end))

    async with reading(bootstrap, **group) as one, reading(bootstrap, **group) as two:
        first, second = Assigned(), Assigned()
        ask_one, ask_two = (deliver_columns(each, on_demand=True) for each in (one, two))
        one.subscribe([topic], listener=first)
        async with asyncio.timeout(30):
            while len(seen) < 10:
                await drain(one, ask_one)
            two.subscribe([topic], listener=second)
            while not (len(first.places) == len(second.places) == 1):
                await asyncio.gather(drain(one, ask_one), drain(two, ask_two))
            seen.clear()
            for partition in (0, 1):
                write(bootstrap, topic, [b"w"] * 5, partition)
            while not {(p, n) for p in (0, 1) for n in range(5, 10)} <= seen:
                await asyncio.gather(drain(one, ask_one), drain(two, ask_two))

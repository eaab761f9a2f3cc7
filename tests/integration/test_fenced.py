"""The canary of the fence: a successor shuts its predecessor out, on a real broker and with the pinned client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiokafka import TopicPartition

from streams.connection import Connection, consumer, start, stop_quietly
from streams.errors import FencedError, RetriableError
from streams.fenced import FencedWriter, WriteFailedError
from tests.support.broker import unique
from tests.support.topics import create_topics

TAKEOVERS = 20


@contextlib.asynccontextmanager
async def claimed(connection: Connection, topic: str, *, fence: bool = True) -> AsyncIterator[FencedWriter]:
    writer = await FencedWriter.claim(connection, topic, 0, fence=fence)
    try:
        yield writer
    finally:
        await writer.stop()


async def stored(connection: Connection, topic: str) -> list[bytes]:
    """All values that a reader of committed records sees, up to the end."""
    reader = consumer(connection, isolation_level="read_committed")
    await start(reader, "reading the topic")
    place = TopicPartition(topic, 0)
    try:
        reader.assign([place])
        end = (await reader.end_offsets([place]))[place]
        reader.seek(place, 0)
        values: list[bytes] = []
        while await reader.position(place) < end:
            values += [record.value for batch in (await reader.getmany(timeout_ms=200)).values() for record in batch]
        return values
    finally:
        await stop_quietly(reader)


@pytest.fixture
def topic(bootstrap: str) -> str:
    name = unique("fenced")
    create_topics(bootstrap, name, config={"max.message.bytes": "12582912"})
    return name


@pytest.mark.timeout(180)
async def test_a_predecessor_is_refused_at_each_of_twenty_take_overs(bootstrap: str, topic: str) -> None:
    connection = Connection(bootstrap)
    ids, refused = [], 0
    async with contextlib.AsyncExitStack() as stack:
        predecessor = await stack.enter_async_context(claimed(connection, topic))
        await predecessor.send(b"0", b"0")
        ids.append(predecessor.producer_id)
        for number in range(1, TAKEOVERS + 1):
            successor = await stack.enter_async_context(claimed(connection, topic))
            with pytest.raises(FencedError):  # before the successor has written anything
                await predecessor.send(b"late", b"late")
            refused += 1
            await successor.send(str(number).encode(), str(number).encode())
            ids.append(successor.producer_id)
            predecessor = successor
        assert refused == TAKEOVERS
        assert {producer for producer, _ in ids} == {ids[0][0]}
        epochs = [epoch for _, epoch in ids]
        assert epochs == sorted(set(epochs))
    assert await stored(connection, topic) == [str(number).encode() for number in range(TAKEOVERS + 1)]


async def test_a_predecessor_that_writes_while_it_is_shut_out_gets_nothing_in_behind_the_claim(
    bootstrap: str, topic: str
) -> None:
    """Claim first, then read to the end: nothing appears behind what the successor has read."""
    connection = Connection(bootstrap)
    async with claimed(connection, topic) as predecessor:
        writing = asyncio.ensure_future(_write_until_refused(predecessor))
        async with claimed(connection, topic) as successor:
            before = await stored(connection, topic)
            count = await asyncio.wait_for(writing, 30)
            await successor.send(b"k", b"successor")
            assert await stored(connection, topic) == [*before, b"successor"]
            assert len(before) == count > 0


async def _write_until_refused(writer: FencedWriter) -> int:
    count = 0
    while True:
        try:
            await writer.send(b"k", str(count).encode())
        except RetriableError:
            return count
        count += 1


async def test_without_the_fence_a_predecessor_gets_in(bootstrap: str, topic: str) -> None:
    connection = Connection(bootstrap)
    async with claimed(connection, topic, fence=False) as predecessor:
        await predecessor.send(b"k", b"1")
        async with claimed(connection, topic, fence=False) as successor:
            await successor.send(b"k", b"2")
            await predecessor.send(b"k", b"late")
    assert await stored(connection, topic) == [b"1", b"2", b"late"]


async def test_submit_and_confirm_give_the_offsets_of_several_batches(bootstrap: str, topic: str) -> None:
    connection = Connection(bootstrap)
    async with claimed(connection, topic) as writer:
        first = await writer.send(b"k", b"first")
        rows = [(str(n).encode(), bytes([n % 251]) * 100_000, [("n", str(n).encode())]) for n in range(35)]
        large = await writer.submit(rows)
        small = await writer.submit([(b"k", b"small", [])])
        assert len(large) > 1  # 3.5 MB do not fit one batch of 1 MiB
        assert await writer.confirm(small) == (first + 36, first + 37)
        assert await writer.confirm(large) == (first + 1, first + 36)
    values = await stored(connection, topic)
    assert values == [b"first", *(value for _, value, _ in rows), b"small"]


async def test_records_of_one_call_stand_side_by_side(bootstrap: str, topic: str) -> None:
    connection = Connection(bootstrap)
    async with claimed(connection, topic) as writer:

        async def write(name: int) -> tuple[int, int]:
            rows = [(b"k", bytes([name]) * 300_000, []) for _ in range(6)]
            return await writer.confirm(await writer.submit(rows))

        spans = await asyncio.gather(*(write(name) for name in range(4)))
    assert all(end - begin == 6 for begin, end in spans)
    values = await stored(connection, topic)
    assert [len({value[:1] for value in values[at : at + 6]}) for at in range(0, 24, 6)] == [1, 1, 1, 1]


async def test_a_record_of_ten_megabytes_passes_and_one_the_broker_refuses_fails(bootstrap: str, topic: str) -> None:
    connection = Connection(bootstrap)
    async with claimed(connection, topic) as writer:
        assert await writer.send(b"k", bytes(10_000_000)) > 0
        with pytest.raises(WriteFailedError):
            await writer.send(b"k", bytes(20_000_000))


async def test_a_claim_without_a_broker_can_be_tried_again(unused_tcp_port: int) -> None:
    with pytest.raises(RetriableError):
        await FencedWriter.claim(Connection(f"127.0.0.1:{unused_tcp_port}"), "nowhere", 0)

"""Result batches that were encoded by hand, on a real broker: written in order, numbered, refused behind the fence."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.errors import RetriableError
from streams.fenced import FencedWriter
from streams.frame_effects import Answer
from streams.ledger import source_of
from streams.results import result_batches
from tests.support.frames import TOPIC_ID, executed
from tests.support.results import result_records
from tests.support.topics import create_topics

CODEC = Codec(SchemaIds.local())
DONE = 1_700_000_000_000_000


def answers(first: int, frames: int, rows: int) -> list[Answer]:
    return [Answer(executed(rows, first=first + rows * at, items=2), DONE) for at in range(frames)]


async def test_they_stand_in_the_log_as_written_and_a_predecessor_adds_nothing(bootstrap: str) -> None:
    topic = f"result-batches-{uuid.uuid4().hex[:8]}"
    create_topics(bootstrap, topic)
    connection = Connection(bootstrap)
    written = [answers(0, 1, 3), answers(3, 5, 4), answers(23, 2, 3_000)]  # the last are several batches
    writer = await FencedWriter.claim(connection, topic, 0)
    ends: list[tuple[int, int]] = []
    for group in written:
        batches = result_batches(CODEC, group)
        ends.append(await writer.confirm(await writer.submit_batches(batches)))
    assert len(batches) > 1
    assert [end - first for first, end in ends] == [3, 20, 6_000]
    successor = await FencedWriter.claim(connection, topic, 0)
    with pytest.raises(RetriableError):
        await writer.confirm(await writer.submit_batches(result_batches(CODEC, answers(9_000, 1, 2))))
    last = answers(6_023, 1, 2)
    await successor.confirm(await successor.submit_batches(result_batches(CODEC, last)))
    await writer.stop()
    await successor.stop()

    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", check_crcs=True)
    await reader.start()
    place = TopicPartition(topic, 0)
    reader.assign([place])
    reader.seek(place, 0)
    found: list[Any] = []
    while len(found) < 6_025:
        found += (await reader.getmany(place, timeout_ms=5_000))[place]
    await reader.stop()
    expected = [
        record for group in (*written, last) for answer in group
        for record in result_records(CODEC, answer.frame, DONE)
    ]  # fmt: skip
    assert [(each.key, each.value, list(each.headers)) for each in found] == expected
    assert [source_of(each.headers) for each in found] == [(TOPIC_ID, 1, at) for at in range(6_025)]

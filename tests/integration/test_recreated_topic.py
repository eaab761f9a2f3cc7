"""A requests topic that is deleted and created again is another one: its requests are answered under its own id."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from infra.settings import Settings
from schemas.request import InferenceRequest
from streams.codec import Codec
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER
from streams.provision import topic_ids, topic_settings
from streams.registry.schema_log import read_schema_ids
from streams.tensors import to_tensor
from streams.topics import TOPICS, full_name
from tests.support.broker import start_servers
from tests.support.served import MODEL, register_models
from tests.support.stack import SESSION_S, RunningStack, stack_settings, wait_until

pytestmark = pytest.mark.timeout(400)

REQUESTS = full_name("inference.requests")
RESULTS = full_name("inference.results")
PARTITIONS = 2
TIMEOUT_MS = 600_000
OLD, NEW = 20, 400  # what the old topic held lies well inside the new one


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a stack over a broker and a Redis that outlive it."""
    folder = tmp_path_factory.mktemp("recreated")
    how = {"partitions": PARTITIONS, "max_timeout_ms": TIMEOUT_MS, "session_timeout_s": SESSION_S}
    with start_servers() as servers:
        yield stack_settings(folder, **how, brokers=servers.bootstrap, redis_url=servers.redis_url)


@dataclass
class Writer:
    """Writes requests and notes where the broker put them."""

    settings: Settings
    schemas: Codec
    written: dict[str, tuple[int, int]] = field(default_factory=dict)

    def write(self, prefix: str, count: int) -> set[tuple[int, int]]:
        """Write ``count`` requests; the coordinates (partition, offset) that they got."""
        producer = Producer({"bootstrap.servers": self.settings.bootstrap, "acks": "all", "linger.ms": 0})
        tensor = to_tensor("x", np.full((1, 256), 0.5, np.float32))
        for number in range(count):
            name = f"{prefix}-{number}"
            request = InferenceRequest(name, MODEL, (tensor,), timeout_ms=TIMEOUT_MS)
            value = self.schemas.encode("inference.requests", request)
            producer.produce(REQUESTS, value, name.encode(), number % PARTITIONS, on_delivery=self._placed)
            producer.poll(0)
        assert producer.flush(30) == 0
        return {self.written[f"{prefix}-{number}"] for number in range(count)}

    def _placed(self, error: Any, message: Any) -> None:
        assert error is None, error
        self.written[message.key().decode()] = (message.partition(), message.offset())


def writer_of(settings: Settings) -> Writer:
    return Writer(settings, Codec(asyncio.run(read_schema_ids(Connection(settings.bootstrap)))))


def current_id(settings: Settings) -> bytes:
    return asyncio.run(topic_ids(Connection(settings.bootstrap), ["inference.requests"]))["inference.requests"]


def recreate(settings: Settings) -> bytes:
    """Delete the requests topic and create it again with the same settings; the new id."""
    admin, old = AdminClient({"bootstrap.servers": settings.bootstrap}), current_id(settings)
    admin.delete_topics([REQUESTS], operation_timeout=15)[REQUESTS].result(30)
    new = NewTopic(
        REQUESTS, num_partitions=PARTITIONS, replication_factor=1, config=topic_settings(TOPICS["inference.requests"])
    )
    admin.create_topics([new], operation_timeout=15)[REQUESTS].result(30)
    found = current_id(settings)
    assert found != old
    return found


Answer = tuple[str, bytes, tuple[int, int], bytes]
"""Request id, topic id, (partition, offset), status letter."""


def answers(settings: Settings) -> list[Answer]:
    """Every result on the topic."""
    return asyncio.run(_read(Connection(settings.bootstrap)))


async def _read(connection: Connection) -> list[Answer]:
    client = consumer(connection, isolation_level="read_committed")
    found: list[Answer] = []
    await start(client, "reading the results")
    try:
        places = [TopicPartition(RESULTS, number) for number in range(PARTITIONS)]
        client.assign(places)
        ends = await client.end_offsets(places)
        while any([await client.position(place) < ends[place] for place in places]):
            for batch in (await bounded(client.getmany(timeout_ms=500), 30, "reading the results")).values():
                for record in batch:
                    headers = dict(record.headers)
                    topic_id, partition, offset = SOURCE.unpack(headers[SOURCE_HEADER])
                    found.append((record.key.decode(), topic_id, (partition, offset), headers[STATUS_HEADER]))
    finally:
        await stop_quietly(client)
    return found


def answered_under(settings: Settings, topic_id: bytes) -> set[tuple[int, int]]:
    return {place for _, under, place, _ in answers(settings) if under == topic_id}


def check(settings: Settings, prefix: str, topic_id: bytes, places: set[tuple[int, int]], num_foreign: int) -> None:
    """Each request with the prefix has one result, OK and under ``topic_id``; the ledger counts the others apart."""
    stored = answers(settings)
    counts = Counter((topic, place) for _, topic, place, _ in stored)
    assert max(counts.values()) == 1
    mine = [each for each in stored if each[0].startswith(f"{prefix}-")]
    assert {(topic, status) for _, topic, _, status in mine} == {(topic_id, b"O")}
    assert sorted(place for _, _, place, _ in mine) == sorted(places)
    assert sum(topic != topic_id for _, topic, _, _ in stored) == num_foreign


def books(stack: RunningStack) -> dict[str, Any]:
    found: dict[str, Any] = stack.isos_json("ledger", "--drained")
    return found


def test_the_new_topics_requests_are_answered_under_the_new_id(settings: Settings) -> None:
    with RunningStack(settings) as stack:
        stack.wait_ready()
        asyncio.run(register_models(settings))
        writer, old_id = writer_of(settings), current_id(settings)
        old = writer.write("old", OLD)
        wait_until(lambda: answered_under(settings, old_id) == old, 60, "an answer to each request of the old topic")
        pids = {name: stack.pid(name) for name in ("edge-0", "validator-0", "router-0", "executor-0")}

        new_id = recreate(settings)
        new = writer.write("new", NEW)
        wait_until(lambda: answered_under(settings, new_id) >= new, 120, "an answer to each request of the new topic")
        for name in ("edge-0", "validator-0"):  # the two that know the topic's id
            stack.wait_restarted(name, pids[name])
            assert f"was re-created: its id was {old_id.hex()}" in stack.log(name)
        assert [stack.pid(name) for name in ("router-0", "executor-0")] == [pids["router-0"], pids["executor-0"]]

        later = writer.write("later", OLD)
        wait_until(lambda: answered_under(settings, new_id) >= later, 60, "an answer to each later request")
        check(settings, "new", new_id, new, OLD)
        check(settings, "later", new_id, later, OLD)
        found = books(stack)
        assert (found["received"], found["ok"], found["missing"], found["duplicated"]) == (NEW + OLD, NEW + OLD, 0, 0)
        assert found["foreign"] == OLD
        assert stack.isos_json("ledger", "--topic-id", old_id.hex(), check=False)["foreign"] == NEW + OLD


def test_a_topic_re_created_while_the_stack_is_down_is_read_from_its_start(settings: Settings) -> None:
    num_before = len(answers(settings))
    writer, new_id = writer_of(settings), recreate(settings)
    places = writer.write("down", 2 * NEW)  # the offsets committed for the topic before lie inside this one
    with RunningStack(settings) as stack:
        stack.wait_ready()
        wait_until(lambda: answered_under(settings, new_id) == places, 120, "an answer to each request")
        check(settings, "down", new_id, places, num_before)
        found = books(stack)
        assert (found["received"], found["ok"], found["foreign"]) == (2 * NEW, 2 * NEW, num_before)

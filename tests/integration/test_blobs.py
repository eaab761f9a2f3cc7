"""What a real broker retains decides which blobs may go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from infra.commands import topics
from streams.blobs import blob_collection
from streams.blobs.blob_collection import RetentionUnknownError, collect, named_by_letters, oldest_records
from streams.blobs.blob_store import LocalBlobStore
from streams.connection import Connection
from streams.topics import full_name
from tests.support.broker import Servers, unique
from tests.support.topics import create_topics

RUN = CliRunner()
SECOND_US = 1_000_000


@pytest.fixture
def topic(bootstrap: str) -> str:
    """Short name of a new topic with two partitions."""
    short = unique("inference.blobs")
    create_topics(bootstrap, full_name(short), partitions=2)
    return short


def write(bootstrap: str, topic: str, stamps_ms: Sequence[int], partition: int = 0, **settings: object) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, **settings})
    if "transactional.id" in settings:
        producer.init_transactions(20)
        producer.begin_transaction()
    for stamp_ms in stamps_ms:
        producer.produce(full_name(topic), b"value", None, partition, timestamp=stamp_ms)
    if "transactional.id" in settings:
        producer.commit_transaction(20)
    assert producer.flush(20) == 0


def delete_before(bootstrap: str, topic: str, offset: int, partition: int = 0) -> None:
    """Move the log's start, as retention does."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_records([TopicPartition(full_name(topic), partition, offset)]).values():
        future.result(20)


async def oldest(bootstrap: str, topic: str) -> list[int | None]:
    """Timestamps of both partitions' first records, ms."""
    found = await oldest_records(Connection(bootstrap), [topic])
    assert list(found) == [f"{full_name(topic)}-0", f"{full_name(topic)}-1"]
    return [None if stamp is None else stamp // 1000 for stamp in found.values()]


@pytest.mark.parametrize("compression", ["none", "lz4"])
async def test_the_oldest_record_is_the_logs_first_not_a_settings(bootstrap: str, topic: str, compression: str) -> None:
    """Also inside a batch: the log's start may stand in its middle."""
    assert await oldest(bootstrap, topic) == [None, None]
    now_ms = int(time.time() * 1000)
    stamps = [now_ms - 50_000 + at * 1_000 for at in range(10)]
    write(bootstrap, topic, stamps, **{"linger.ms": 200, "compression.type": compression})
    assert await oldest(bootstrap, topic) == [stamps[0], None]
    delete_before(bootstrap, topic, 4)
    assert await oldest(bootstrap, topic) == [stamps[4], None]
    write(bootstrap, topic, [now_ms], 1)
    delete_before(bootstrap, topic, 10)
    assert await oldest(bootstrap, topic) == [None, now_ms]


async def test_a_partition_of_nothing_but_markers_holds_no_blob_for_ever(bootstrap: str, topic: str) -> None:
    write(bootstrap, topic, [1_000], **{"transactional.id": unique("writer")})
    assert await oldest(bootstrap, topic) == [1_000, None]
    delete_before(bootstrap, topic, 1)
    assert await oldest(bootstrap, topic) == [None, None]


async def test_a_topic_that_is_missing_means_that_nothing_is_known(bootstrap: str) -> None:
    with pytest.raises(RetentionUnknownError, match="no such topic"):
        await oldest_records(Connection(bootstrap), [unique("inference.nothing")])


async def test_letters_keep_what_they_name(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topic: str
) -> None:
    """A collection with a topic of this test's own in the place of requests and frames."""
    monkeypatch.setenv("ISOS_BROKERS", servers.bootstrap)
    assert (await asyncio.to_thread(RUN.invoke, topics.app, ["provision"])).exit_code == 0
    monkeypatch.setattr(blob_collection, "NAMING", (topic,))
    connection, store = Connection(servers.bootstrap), LocalBlobStore(tmp_path)
    refs = {name: await store.put(unique(name).encode()) for name in ("lettered", "loose", "named", "fresh")}
    now_s = time.time()
    ages = {"lettered": 500, "loose": 500, "named": 90, "fresh": 0}
    for name, age_s in ages.items():
        os.utime(store.path(refs[name].digest), (now_s - age_s,) * 2)
    producer = Producer({"bootstrap.servers": servers.bootstrap})
    letter = b"\x00\x01 not a record of ours \x80\x01" + refs["lettered"].digest.encode() + b"aa"
    producer.produce(full_name("inference.dlq"), letter, b"key")
    assert producer.flush(20) == 0
    assert await named_by_letters(connection, [ref.digest for ref in refs.values()]) == {refs["lettered"].digest}

    write(servers.bootstrap, topic, [int((now_s - 100) * 1000)])  # retained, and admitted 10 s later
    done = await collect(store, connection, 60 * SECOND_US)
    assert done.horizon.oldest == f"{full_name(topic)}-0"
    assert [blob.digest for blob in done.removed] == [refs["loose"].digest]
    assert [blob.digest for blob in done.kept_by_letters] == [refs["lettered"].digest]

    delete_before(servers.bootstrap, topic, 1)
    done = await collect(store, connection, 60 * SECOND_US)
    assert [blob.digest for blob in done.removed] == [refs["named"].digest]
    assert {blob.digest for blob in await store.blobs()} == {refs["lettered"].digest, refs["fresh"].digest}

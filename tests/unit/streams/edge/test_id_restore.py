"""Claims come back from memory and from results, and a partition is complete only if nothing was missed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.edge import id_restore
from streams.edge.id_restore import RESULTS, IdRestore, head_of
from streams.edge.request_ids import NO_DIGEST, Claim
from streams.errors import RetriableError
from tests.support import samples
from tests.support.fake_kafka import until
from tests.support.fake_log import FakeLogReader, result_record
from tests.support.frames import TOPIC_ID

CODEC = Codec(SchemaIds.local())
RESULT = replace(samples.SAMPLES["InferenceResult"], request_id="\N{SNOWMAN}1", tenant="acme", received_us=77)
VALUE = CODEC.encode("inference.results", RESULT)
FAR_MS = 1 << 45


class FakeIds:
    """Counts outages as the test says; keeps what is put."""

    def __init__(self, *incomplete: int) -> None:
        self.incomplete = set(incomplete)
        self.doubt = asyncio.Event()
        self.num_outages = 0
        self.window_us = 300_000_000
        self.kept: list[tuple[bytes, Claim]] = []
        self.puts: list[int] = []
        self.marked: list[int] = []
        self.failures = 0
        self.outage_at = -1

    def key(self, tenant: str, request_id: bytes) -> bytes:
        return tenant.encode() + b"/" + request_id

    def local_claims(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        return iter([(b"mine", Claim(partition, 1, 2, NO_DIGEST).pack())])

    async def put(self, claims: list[tuple[bytes, bytes]]) -> None:
        if self.failures:
            self.failures -= 1
            raise RetriableError("Redis is away")
        if len(self.puts) == self.outage_at:
            self.num_outages += 1
        self.puts.append(len(claims))
        self.kept += [(key, Claim.unpack(packed)) for key, packed in claims]

    async def restored(self, partition: int) -> None:
        self.incomplete.discard(partition)
        self.marked.append(partition)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeLogReader:
    fake = FakeLogReader({})
    monkeypatch.setattr(id_restore, "consumer", lambda *_, **__: fake)
    monkeypatch.setattr(id_restore, "REST", 0.0)
    return fake


def made(ids: FakeIds) -> IdRestore:
    return IdRestore(Connection("127.0.0.1:1"), TOPIC_ID, ids)  # type: ignore[arg-type]


def ok(at: int, offset: int, partition: int = 0, **fields: Any) -> Any:
    return result_record(at, (TOPIC_ID, partition, offset), b"O", VALUE, **{"time_ms": FAR_MS, **fields})


def test_the_head_of_a_value_is_read_without_its_schema() -> None:
    assert head_of(VALUE) == ("\N{SNOWMAN}1".encode(), "acme", 77)
    with pytest.raises(EOFError):
        head_of(VALUE[:7])


async def test_memory_first_then_the_ok_results_of_the_window(reader: FakeLogReader) -> None:
    ids = FakeIds(0)
    reader.logs[TopicPartition(RESULTS, 0)] = [
        ok(0, 90, time_ms=5),  # older than the window
        ok(1, 91),
        result_record(2, (TOPIC_ID, 0, 92), b"R", VALUE, time_ms=FAR_MS),
        result_record(3, (b"o" * 16, 0, 93), b"O", VALUE, time_ms=FAR_MS),
        result_record(4, (TOPIC_ID, 0, 94), b"O", b"\0\0", time_ms=FAR_MS),
        ok(5, 95),
    ]
    restore = made(ids)
    await restore.restore(0)
    key = "acme/\N{SNOWMAN}1".encode()
    assert ids.kept == [
        (b"mine", Claim(0, 1, 2, NO_DIGEST)),
        (key, Claim(0, 91, 77, NO_DIGEST)),
        (key, Claim(0, 95, 77, NO_DIGEST)),
    ]
    assert (ids.marked, restore.num_restored, reader.stopped) == ([0], 2, 1)


async def test_only_the_newest_count_when_there_are_too_many(
    reader: FakeLogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_restore, "MAX_RECORDS", 3)
    reader.logs[TopicPartition(RESULTS, 0)] = [ok(n, n) for n in range(10)]
    await made(FakeIds(0)).restore(0)
    assert reader.reads == [7, 8, 9]


async def test_no_results_at_all(reader: FakeLogReader) -> None:
    ids = FakeIds(0)
    await made(ids).restore(0)
    assert ids.marked == [0]


async def test_an_outage_meanwhile_leaves_the_partition_incomplete(reader: FakeLogReader) -> None:
    ids = FakeIds(0)
    ids.outage_at = 1
    reader.logs[TopicPartition(RESULTS, 0)] = [ok(1, 91)]
    await made(ids).restore(0)
    assert (ids.marked, ids.incomplete) == ([], {0})


async def test_a_partition_that_left_is_not_marked(reader: FakeLogReader) -> None:
    ids = FakeIds()
    await made(ids).restore(0)
    assert ids.marked == []


async def test_it_is_tried_again_until_it_stands(reader: FakeLogReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_restore, "RETRY_S", 0.0)
    ids = FakeIds(0, 1)
    ids.failures = 2
    reader.error = KafkaConnectionError()
    reader.logs[TopicPartition(RESULTS, 0)] = [ok(1, 91)]
    running = asyncio.ensure_future(made(ids).run())
    ids.doubt.set()
    await until(lambda: reader.stopped >= 2)
    reader.error = None
    await until(lambda: not ids.incomplete)
    assert sorted(set(ids.marked)) == [0, 1]
    running.cancel()
    await asyncio.wait({running})

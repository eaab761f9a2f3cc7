"""The fenced writer's own arithmetic: batches, offsets, and what errors become. The fence itself: integration tests."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from streams import fenced
from streams.errors import FencedError
from streams.fenced import FencedWriter, WriteFailedError
from tests.support.fake_kafka import turns


class FakeBatch:
    """Takes at most three records, and none that is larger than ten bytes."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.closed = False

    def append(self, *, key: bytes | None, value: bytes, timestamp: None, headers: Any) -> object | None:
        if len(self.records) == 3 or len(value) > 10:
            return None
        self.records.append(value)
        return object()

    def record_count(self) -> int:
        return len(self.records)

    def close(self) -> None:
        self.closed = True


class FakeClient:
    """Gives batches offsets one after the other; ``error`` is what a batch's future fails with."""

    def __init__(self) -> None:
        self.batches: list[FakeBatch] = []
        self.end = 100
        self.error: Exception | None = None
        self.refuse: Exception | None = None
        self.stopped = False

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, partition: int) -> asyncio.Future[Any]:
        await asyncio.sleep(0)
        if self.refuse is not None:
            raise self.refuse
        assert batch.closed
        self.batches.append(batch)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(SimpleNamespace(offset=self.end))
        self.end += len(batch.records)
        return future

    async def start(self) -> None:
        raise KafkaConnectionError

    async def stop(self) -> None:
        self.stopped = True


def rows(*values: bytes) -> list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]:
    return [(b"k", value, []) for value in values]


async def test_records_fill_batches_in_order_and_none_is_lost_when_one_is_full() -> None:
    client = FakeClient()
    writer = FencedWriter(client, "t", 0)
    submission = await writer.submit(rows(*(bytes([n]) for n in range(7))))
    assert [batch.records for batch in client.batches] == [[b"\0", b"\1", b"\2"], [b"\3", b"\4", b"\5"], [b"\6"]]
    assert [count for _, count in submission] == [3, 3, 1]
    assert await writer.confirm(submission) == (100, 107)
    assert await writer.send(b"k", b"x") == 107


async def test_calls_that_overlap_do_not_mix() -> None:
    client = FakeClient()
    writer = FencedWriter(client, "t", 0)
    await asyncio.gather(*(writer.submit(rows(*([bytes([n])] * 5))) for n in range(3)))
    assert [value for batch in client.batches for value in batch.records] == [
        bytes([n]) for n in range(3) for _ in range(5)
    ]


async def test_a_record_that_fits_no_batch_fails_aloud() -> None:
    with pytest.raises(WriteFailedError, match="did not fit"):
        await FencedWriter(FakeClient(), "t", 0).submit(rows(b"x" * 11))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProducerFenced(), FencedError),
        (InvalidProducerEpoch(), FencedError),
        (OutOfOrderSequenceNumber(), FencedError),
        (NotLeaderForPartitionError(), WriteFailedError),
        (KafkaConnectionError(), WriteFailedError),
    ],
)
async def test_what_errors_become(error: Exception, expected: type[Exception]) -> None:
    client = FakeClient()
    client.error = error
    with pytest.raises(expected, match="t-0"):
        await FencedWriter(client, "t", 0).send(b"k", b"v")
    client.error, client.refuse = None, error
    with pytest.raises(expected, match="t-0"):
        await FencedWriter(client, "t", 0).send(b"k", b"v")


async def test_a_failure_that_nobody_waits_for_does_not_warn() -> None:
    client = FakeClient()
    client.error = NotLeaderForPartitionError()
    submission = await FencedWriter(client, "t", 0).submit(rows(b"v"))
    await turns()
    assert not submission[0][0]._log_traceback  # type: ignore[attr-defined]


async def test_a_claim_that_cannot_connect_leaves_no_client_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(fenced, "producer", lambda *_, **__: client)
    with pytest.raises(WriteFailedError, match="claim was refused"):
        await FencedWriter.claim(None, "t", 0)  # type: ignore[arg-type]
    assert client.stopped


async def test_a_claim_that_is_cancelled_leaves_no_client_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(client, "start", lambda: asyncio.Event().wait())
    monkeypatch.setattr(fenced, "producer", lambda *_, **__: client)
    claiming = asyncio.ensure_future(FencedWriter.claim(None, "t", 0))  # type: ignore[arg-type]
    await turns()
    claiming.cancel()
    await asyncio.wait({claiming})
    assert claiming.cancelled()
    assert client.stopped

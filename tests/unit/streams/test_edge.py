"""The edge's loop against a hand-made consumer: rows, gaps, commits, rebalances in the middle of an await."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from agents.admission import AdmissionPolicy, Refusal, admit
from schemas.frame import InferenceFrame
from schemas.request import InferenceRequest, Tensor
from streams import edge
from streams.codec import Codec, SchemaIds
from streams.columns import ERROR, PENDING, REJECTED, Columns, num_rows, request_ids
from streams.edge import MAX_MESSAGE, REQUESTS, Edge, _describe, _end
from streams.errors import RetriableError
from streams.quota import Charge
from streams.topics import full_name
from tests.support.fake_kafka import FakeConsumer, FakeProducer, record, turns, until
from tests.support.frames import MODEL, TOPIC_ID, memory, row

CODEC = Codec(SchemaIds.local())
VIEW = memory(MODEL)
PLACE = TopicPartition(REQUESTS, 0)
GOOD = InferenceRequest("r1", "digits", (Tensor("x", "FP32", (1, 2), bytes(8)),))
VALUE = CODEC.encode("inference.requests", GOOD)


class FakeQuota:
    """Refuses the offsets in ``refused``; ``hook`` runs inside the call."""

    def __init__(self) -> None:
        self.refused: dict[int, int] = {}
        self.charges: list[Charge] = []
        self.hook: Any = None

    async def charge(self, charges: list[Charge]) -> list[int]:
        self.charges += charges
        if self.hook is not None:
            hook, self.hook = self.hook, None
            await hook()
        return [self.refused.get(charge.offset, -1) for charge in charges]


class Bench:
    """An edge with one partition."""

    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.producer = FakeProducer()
        self.quota = FakeQuota()
        self.letters: list[tuple[bytes | None, str]] = []
        self.edge = Edge(
            self.consumer,
            self.producer,
            CODEC,
            self.quota,  # type: ignore[arg-type]
            lambda request: admit(request, VIEW, AdmissionPolicy()),
            lambda: 3,
            self._letter,
            topic_id=TOPIC_ID,
            tick_ms=1,
        )

    async def _letter(self, value: bytes | None, error: Any, where: Any) -> None:
        self.letters.append((value, error.code))

    async def take(self, *records: Any) -> None:
        await self.edge._take({PLACE: list(records)})
        await turns()

    def frames(self, topic: str) -> list[InferenceFrame]:
        return [CODEC.decode(topic, each.value) for each in self.producer.sent if each.topic == full_name(topic)]

    async def committed(self) -> dict[TopicPartition, int]:
        await self.edge._commit()
        return self.consumer.commits[-1] if self.consumer.commits else {}


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(bench.edge.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_tick_becomes_one_admitted_frame_on_the_same_partition() -> None:
    bench = Bench()
    await bench.take(record(VALUE, 0, time_ms=5), record(VALUE, 1, time_ms=6))
    (made,) = bench.frames("inference.admitted")
    columns = Columns.of(made)
    assert (made.partition, made.topic_id, made.memory_sequence) == (0, TOPIC_ID, 3)
    assert columns.offsets.tolist() == [0, 1]
    assert columns.received_us.tolist() == [5000, 6000]
    assert columns.deadlines_us.tolist() == [30_005_000, 30_006_000]
    assert set(made.statuses) == {PENDING}
    assert [each.partition for each in bench.producer.sent] == [0]
    assert [charge.time_us for charge in bench.quota.charges] == [5000, 6000]
    assert bench.frames("inference.executed") == []


async def test_refused_rows_skip_the_stages_they_do_not_need() -> None:
    bench = Bench()
    bench.quota.refused = {2: 1500}
    unknown = CODEC.encode("inference.requests", replace(GOOD, model="nobody", tenant="acme"))
    await bench.take(record(VALUE, 0), record(unknown, 1), record(VALUE, 2), record(b"garbage", 3), record(None, 4))
    (admitted,), (ended,) = bench.frames("inference.admitted"), bench.frames("inference.executed")
    assert Columns.of(admitted).offsets.tolist() == [0]
    offsets = Columns.of(ended).offsets
    assert {int(offsets[error.row]): (error.code, error.retry_after_ms) for error in ended.errors} == {
        1: ("unknown_model", 0),
        2: ("quota_exceeded", 2),
        3: ("garbage", 0),
        4: ("null_value", 0),
    }
    assert {int(offset): status for offset, status in zip(offsets, ended.statuses, strict=True)} == {
        1: REJECTED,
        2: REJECTED,
        3: ERROR,
        4: ERROR,
    }
    assert not any(segment.inputs for segment in ended.segments)
    assert bench.letters == [(b"garbage", "garbage"), (None, "null_value")]
    assert [charge.offset for charge in bench.quota.charges] == [0, 2]
    assert bench.edge.counts.num_refused == 4


async def test_ids_of_records_that_name_none() -> None:
    bench = Bench()
    no_id = CODEC.encode("inference.requests", replace(GOOD, request_id="x" * 65))
    wide = "\N{GRINNING FACE}" * 64  # 64 characters, 256 bytes: more than a frame's id may have
    await bench.take(
        record(b"?", 0, key=b"my-key"),
        record(b"?", 1, key=b"\xff"),
        record(b"?", 2, key=wide.encode()),
        record(no_id, 3, key=b"other"),
        record(b"?", 4),
    )
    (ended,) = bench.frames("inference.executed")
    ids = dict(zip(Columns.of(ended).offsets.tolist(), request_ids(ended), strict=True))
    assert ids == {0: b"my-key", 1: b"0-1", 2: b"0-2", 3: b"other", 4: b"0-4"}


async def test_gaps_count_from_the_committed_offset() -> None:
    bench = Bench()
    bench.consumer.offsets[PLACE] = 10
    await bench.take(record(VALUE, 12), record(VALUE, 15))
    await bench.take(record(VALUE, 16), record(VALUE, 18))
    gaps = [Columns.of(made).gaps.tolist() for made in bench.frames("inference.admitted")]
    assert gaps == [[2, 2], [0, 1]]


@pytest.mark.parametrize(("committed", "beginning", "gap"), [(None, 4, 3), (None, 7, 0), (9, 2, 5)])
async def test_where_the_first_gap_begins(committed: int | None, beginning: int, gap: int) -> None:
    """Without a committed offset, or with one that is ahead of what came, reading began at the log's start."""
    bench = Bench()
    bench.consumer.beginning = beginning
    if committed is not None:
        bench.consumer.offsets[PLACE] = committed
    await bench.take(record(VALUE, 7))
    assert Columns.of(bench.frames("inference.admitted")[0]).gaps.tolist() == [gap]


async def test_offsets_are_committed_behind_acknowledged_frames_only() -> None:
    bench = Bench()
    bench.producer.automatic = False
    await bench.take(record(VALUE, 0), record(b"?", 1))
    await bench.take(record(VALUE, 2))
    admitted, ended, later = (each.future for each in bench.producer.sent)
    later.set_result(None)
    await turns()
    assert await bench.committed() == {}
    admitted.set_result(None)
    await turns()
    assert await bench.committed() == {}
    ended.set_result(None)
    await turns()
    assert await bench.committed() == {PLACE: 3}
    await bench.edge._commit()
    assert len(bench.consumer.commits) == 1  # nothing new


async def test_a_rebalance_while_quotas_are_asked_voids_the_fetch() -> None:
    bench = Bench()
    bench.quota.hook = lambda: bench.edge.on_partitions_assigned({PLACE})
    await bench.take(record(VALUE, 0))
    assert bench.producer.sent == []
    assert await bench.committed() == {}
    await bench.take(record(VALUE, 0))
    assert [num_rows(made) for made in bench.frames("inference.admitted")] == [1]
    assert await bench.committed() == {PLACE: 1}


async def test_a_rebalance_while_the_start_is_asked_leaves_no_trace() -> None:
    """Records of the voided fetch must not move the place from which the new generation counts gaps."""
    bench = Bench()
    bench.consumer.offsets[PLACE] = 0
    bench.consumer.on_committed = lambda: bench.edge.on_partitions_assigned({PLACE})
    await bench.edge._take({PLACE: [record(VALUE, 5)], TopicPartition(REQUESTS, 1): [record(VALUE, 9, partition=1)]})
    assert bench.producer.sent == []
    assert bench.edge._partitions == {}
    bench.consumer.offsets[PLACE] = 3
    await bench.take(record(VALUE, 5))
    assert Columns.of(bench.frames("inference.admitted")[0]).gaps.tolist() == [2]


async def test_confirmations_of_an_older_generation_commit_nothing() -> None:
    bench = Bench()
    bench.producer.automatic = False
    await bench.take(record(VALUE, 0))
    await bench.edge.on_partitions_assigned({PLACE})
    bench.producer.sent[0].future.set_result(None)
    await turns()
    assert await bench.committed() == {}


async def test_an_unknown_fate_ends_the_process() -> None:
    bench = Bench()
    bench.producer.automatic = False
    bench.consumer.batches = [{PLACE: [record(VALUE, 0)]}]
    async with running(bench) as task:
        await until(lambda: bench.producer.sent)
        bench.producer.sent[0].future.set_exception(KafkaConnectionError())
        await asyncio.wait({task}, timeout=5)
        assert isinstance(task.exception(), RetriableError)
    assert bench.consumer.commits == []


async def test_a_send_that_is_refused_at_once_ends_the_process() -> None:
    bench = Bench()
    bench.producer.error = KafkaConnectionError()
    with pytest.raises(RetriableError):
        await bench.take(record(VALUE, 0))


async def test_the_loop_commits_what_it_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "COMMIT_S", 0.0)
    bench = Bench()
    bench.consumer.batches = [{PLACE: [record(VALUE, n)]} for n in range(3)]
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 3)
        await bench.consumer.listener.on_partitions_assigned({PLACE})
        assert bench.edge.joined.is_set()


async def test_a_tick_takes_what_two_fetches_bring() -> None:
    bench = Bench()
    bench.consumer.batches = [{PLACE: [record(VALUE, 0)]}, {PLACE: [record(VALUE, 1)]}]
    fetched = await bench.edge._fetch()
    assert [each.offset for each in fetched[PLACE]] == [0, 1]
    assert await bench.edge._fetch() == {}


async def test_a_rebalance_between_the_two_fetches_voids_the_first() -> None:
    bench = Bench()
    bench.consumer.batches = [{PLACE: [record(VALUE, 5)]}, {PLACE: [record(VALUE, 0)]}]
    getmany = bench.consumer.getmany

    async def rebalancing(*given: Any, **settings: Any) -> dict[TopicPartition, list[Any]]:
        if len(bench.consumer.batches) == 1:
            await bench.edge.on_partitions_assigned({PLACE})
        return await getmany(*given, **settings)

    bench.consumer.getmany = rebalancing  # type: ignore[method-assign]
    assert [each.offset for each in (await bench.edge._fetch())[PLACE]] == [0]


def test_a_row_is_described_within_what_a_result_may_hold() -> None:
    made = row(1)
    request = replace(
        GOOD, request_id="", tenant="t" * 99, model="m" * 99, version="v" * 99, priority=77, routing_key="k" * 999
    )
    _describe(made, request, record(b"", 1, key=b"key"))
    assert (made.request_id, made.priority) == (b"key", 9)
    assert [len(part) for part in (made.tenant, made.model, made.version, made.routing_key)] == [64, 64, 64, 256]
    _describe(made, replace(request, priority=-4, routing_key=None, version=None), record(b"", 1))
    assert (made.priority, made.routing_key, made.version) == (0, b"", "")


def test_an_ended_row_has_no_tensors_and_a_bounded_message() -> None:
    made = row(1, items=3)
    _end(made, "wrong_shape", "m" * 10_000, 7)
    assert (made.status, made.items, made.blocks) == (REJECTED, 0, ())
    assert made.error is not None
    assert (made.error.code, len(made.error.message), made.error.retry_after_ms) == ("wrong_shape", MAX_MESSAGE, 7)
    _end(made, "garbage", "x")
    assert made.status == ERROR


def test_verdicts_are_told_apart_by_their_code() -> None:
    assert hasattr(Refusal("a", "b"), "code")
    assert not hasattr(admit(GOOD, VIEW, AdmissionPolicy()), "code")

"""The edge's loop against a hand-made consumer: rows, gaps, commits, rebalances in the middle of an await."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from agents.admission import AdmissionPolicy, admit
from schemas.frame import InferenceFrame
from schemas.load import ExecutorLoad, VersionLoad
from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.check_id import TENANT, check_id
from streams.codec import Codec, SchemaIds
from streams.columns import ERROR, PENDING, REJECTED, Columns, num_rows, request_ids
from streams.committed import CommittedConsumer
from streams.edge import edge
from streams.edge.edge import REQUESTS, Edge
from streams.edge.forecast import Forecast
from streams.edge.late_rows import LateRow
from streams.edge.quota import Charges
from streams.edge.request_ids import Claim, Span
from streams.edge.request_reader import RequestReader
from streams.edge.request_row import end
from streams.edge.row_outlet import RowOutlet
from streams.errors import RetriableError
from streams.letters.letter import Letter
from streams.record_columns import RecordColumns, columns_of
from streams.topics import full_name
from tests.support.charges import Charge, each_of
from tests.support.fake_kafka import FakeConsumer, FakeProducer, record, turns, until
from tests.support.frames import MODEL, TOPIC_ID, memory

CODEC = Codec(SchemaIds.local())
VIEW = memory(MODEL)
PLACE = TopicPartition(REQUESTS, 0)
POLICY = AdmissionPolicy(check_key=b"k" * 32)
GOOD = InferenceRequest("r1", "digits", (Tensor("x", "FP32", (1, 2), bytes(8)),))
VALUE = CODEC.encode("inference.requests", GOOD)


class FakeQuota:
    """Refuses the offsets in ``refused``; ``hook`` runs inside the call."""

    def __init__(self) -> None:
        self.refused: dict[int, int] = {}
        self.charges: list[Charge] = []
        self.hook: Any = None

    async def charge(self, asked: list[Charges]) -> list[dict[int, int]]:
        self.charges += [each for charges in asked for each in each_of(charges)]
        if self.hook is not None:
            hook, self.hook = self.hook, None
            await hook()
        return [
            {
                int(at): self.refused[offset]
                for at, offset in zip(charges.order, charges.offsets.tolist(), strict=True)
                if offset in self.refused
            }
            for charges in asked
        ]


class FakeIds:
    """Holds ids by tenant and id; says which offsets met which claim."""

    def __init__(self) -> None:
        self.held: dict[bytes, Claim] = {}
        self.spans: list[dict[int, Span]] = []
        self.forgotten: list[int] = []

    def key(self, tenant: str, request_id: bytes) -> bytes:
        return tenant.encode() + b"/" + request_id

    def forget(self, partitions: list[int]) -> None:
        self.forgotten += partitions

    async def claim(self, claims: Sequence[tuple[bytes, bytes]], spans: dict[int, Span]) -> dict[int, Claim]:
        self.spans.append(spans)
        met = {}
        for at, (key, packed) in enumerate(claims):
            claim = Claim.unpack(packed)
            holder = self.held.setdefault(key, claim)
            if holder.place != claim.place:
                met[at] = holder
        return met


class FakeLate:
    """Keeps what it is given; ``full`` refuses a repeated id."""

    def __init__(self) -> None:
        self.waiting: list[LateRow] = []
        self.storing: list[LateRow] = []
        self.full = False
        self.is_full = False
        self.error: Exception | None = None

    def wait(self, late: LateRow) -> bool:
        if self.full:
            late.row.error = end(late.row, "duplicate_in_flight", "full", 1000) or late.row.error
            return False
        late.holder[0].window.add(late.holder[1])
        self.waiting.append(late)
        return True

    def store(self, rows: list[LateRow]) -> None:
        for late in rows:
            late.holder[0].window.add(late.holder[1])
        self.storing += rows

    async def run(self) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


class Met(dict[Any, None]):
    """Every signature counts as met before: it is judged at first sight."""

    def __contains__(self, _: object) -> bool:
        return True


@pytest.fixture(params=["rows", "columns"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs request by request, and with columns for what columns can hold."""
    monkeypatch.setattr(Bench, "sequence", None if request.param == "rows" else staticmethod(lambda: 3))


class Bench:
    """An edge with one partition."""

    sequence: Any = None

    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.producer = FakeProducer()
        self.quota, self.ids, self.late = FakeQuota(), FakeIds(), FakeLate()
        self.forecast = Forecast()
        self.letters: list[Letter] = []
        self.letter_error: Exception | None = None
        self.source = CommittedConsumer(self.consumer, REQUESTS)  # type: ignore[arg-type]
        outlet = RowOutlet(self.source, self.producer, CODEC, lambda: 3, TOPIC_ID)  # type: ignore[arg-type]
        reader = RequestReader(CODEC, lambda request: admit(request, VIEW, POLICY), None, Bench.sequence)
        reader._signatures._met = Met()
        self.edge = Edge(
            self.source,
            reader,
            self.quota,  # type: ignore[arg-type]
            self.ids,  # type: ignore[arg-type]
            outlet,
            self.late,  # type: ignore[arg-type]
            self._write,
            tick_ms=1,
            blob_bytes=1024,
            forecast=self.forecast,
        )

    async def _write(self, letters: Sequence[Letter]) -> None:
        if self.letter_error is not None:
            raise self.letter_error
        self.letters += letters

    async def take(self, *records: Any) -> None:
        await self.edge._take({PLACE: columns_of(REQUESTS, 0, records)})
        await turns()

    def frames(self, topic: str) -> list[InferenceFrame]:
        return [CODEC.decode(topic, each.value) for each in self.producer.sent if each.topic == full_name(topic)]

    async def committed(self) -> dict[TopicPartition, int]:
        await self.source.commit()
        return self.consumer.commits[-1] if self.consumer.commits else {}


def value_of(n: int, **fields: Any) -> bytes:
    """A good request with an id of its own."""
    return CODEC.encode("inference.requests", replace(GOOD, request_id=f"r{n}", **fields))


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
    await bench.take(record(value_of(0), 0, time_ms=5), record(value_of(1), 1, time_ms=6))
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


async def test_what_would_be_done_too_late_is_refused_and_its_id_stays_free() -> None:
    bench, now_us = Bench(), time.time_ns() // 1000
    slow = VersionLoad("digits", "v1.0.0", 0.0, 100_000.0, 1, True, 0.0, 0, 0, (0, 20))
    bench.forecast.take(ExecutorLoad("executor-0", now_us, now_us, 2, (slow,)), now_us)
    hurried = value_of(1, timeout_ms=1500)
    await bench.take(
        *[record(value_of(0, priority=0), 0, time_ms=now_us // 1000), record(hurried, 1, time_ms=now_us // 1000)],
        *[record(value_of(2), 2, time_ms=now_us // 1000), record(b"garbage", 3)],
    )
    (admitted,), (ended,) = bench.frames("inference.admitted"), bench.frames("inference.executed")
    assert sorted(Columns.of(admitted).offsets.tolist()) == [0, 2]
    offsets = Columns.of(ended).offsets.tolist()
    error = next(each for each in ended.errors if offsets[each.row] == 1)
    assert error.code == "overloaded"
    assert ended.statuses[error.row] == REJECTED
    assert 500 <= error.retry_after_ms <= 1500
    assert sorted(bench.ids.held) == [b"default/r0", b"default/r2"]
    assert [charge.offset for charge in bench.quota.charges] == [0, 1, 2]
    assert bench.edge.counts.num_refused == 2


async def test_requests_of_checks_pass_and_what_pretends_to_be_one_does_not() -> None:
    bench, now_us = Bench(), time.time_ns() // 1000
    check = replace(GOOD, tenant=TENANT, version="v1.0.0")
    ids = [check_id(POLICY.check_key, f"{n:016x}", "digits", "v1.0.0", GOOD.inputs) for n in range(2)]
    good = CODEC.encode("inference.requests", replace(check, request_id=ids[0]))
    await bench.take(
        record(good, 0), record(value_of(1, tenant=TENANT, version="v1.0.0"), 1), record(value_of(2, tenant=TENANT), 2)
    )
    (admitted,), (ended,) = bench.frames("inference.admitted"), bench.frames("inference.executed")
    assert Columns.of(admitted).offsets.tolist() == [0]
    assert [error.code for error in ended.errors] == ["reserved_tenant"] * 2
    slow = VersionLoad("digits", "v1.0.0", 0.0, 100_000.0, 1, True, 0.0, 0, 0, (0, 20))
    bench.forecast.take(ExecutorLoad("executor-0", now_us, now_us, 2, (slow,)), now_us)
    late = CODEC.encode("inference.requests", replace(check, request_id=ids[1], timeout_ms=1500))
    await bench.take(record(late, 3, time_ms=now_us // 1000))
    assert [error.code for error in bench.frames("inference.executed")[-1].errors] == ["overloaded"]
    assert bench.edge.refused.close(0, now_us) == []  # no load that executors are to be added for
    await bench.take(record(value_of(4, timeout_ms=1500), 4, time_ms=now_us // 1000))
    assert [load.refused_per_s > 0 for _, load in bench.edge.refused.close(0, now_us + 1_000_000)] == [True]


async def test_refused_rows_skip_the_stages_they_do_not_need() -> None:
    bench = Bench()
    bench.quota.refused = {2: 1500}
    unknown = CODEC.encode("inference.requests", replace(GOOD, model="nobody", tenant="acme"))
    await bench.take(
        record(value_of(0), 0), record(unknown, 1), record(value_of(2), 2), record(b"garbage", 3), record(None, 4)
    )
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
    assert [(each.value, each.code) for each in bench.letters] == [(b"garbage", "garbage"), (None, "null_value")]
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
    await bench.take(record(value_of(12), 12), record(value_of(15), 15))
    await bench.take(record(value_of(16), 16), record(value_of(18), 18))
    gaps = [Columns.of(made).gaps.tolist() for made in bench.frames("inference.admitted")]
    assert gaps == [[2, 2], [0, 1]]


@pytest.mark.parametrize(("committed", "beginning", "gap"), [(None, 4, 3), (None, 7, 0), (9, 2, 0)])
async def test_where_the_first_gap_begins(committed: int | None, beginning: int, gap: int) -> None:
    """Without a committed offset reading began at the log's start; with one that another edge moved on, who knows."""
    bench = Bench()
    bench.consumer.beginning = beginning
    if committed is not None:
        bench.consumer.offsets[PLACE] = committed
    await bench.take(record(value_of(7), 7))
    assert Columns.of(bench.frames("inference.admitted")[0]).gaps.tolist() == [gap]


async def test_offsets_are_committed_behind_acknowledged_frames_only() -> None:
    bench = Bench()
    bench.producer.automatic = False
    await bench.take(record(value_of(0), 0), record(b"?", 1))
    await bench.take(record(value_of(2), 2))
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
    await bench.source.commit()
    assert len(bench.consumer.commits) == 1  # nothing new


async def test_a_rebalance_while_quotas_are_asked_voids_the_fetch() -> None:
    bench = Bench()
    bench.quota.hook = lambda: bench.source.on_partitions_assigned({PLACE})
    await bench.take(record(value_of(0), 0))
    assert bench.producer.sent == []
    assert await bench.committed() == {}
    await bench.take(record(value_of(0), 0))
    assert [num_rows(made) for made in bench.frames("inference.admitted")] == [1]
    assert await bench.committed() == {PLACE: 1}


async def test_a_rebalance_while_the_start_is_asked_leaves_no_trace() -> None:
    """Records of the voided fetch must not move the place from which the new generation counts gaps."""
    bench = Bench()
    bench.consumer.offsets[PLACE] = 0
    bench.consumer.on_committed = lambda: bench.source.on_partitions_assigned({PLACE})
    await bench.edge._take(
        {
            PLACE: columns_of(REQUESTS, 0, [record(value_of(5), 5)]),
            TopicPartition(REQUESTS, 1): columns_of(REQUESTS, 1, [record(value_of(9), 9, partition=1)]),
        }
    )
    assert bench.producer.sent == []
    assert bench.source.partitions == {}
    bench.consumer.offsets[PLACE] = 3
    await bench.take(record(value_of(5), 5))
    assert Columns.of(bench.frames("inference.admitted")[0]).gaps.tolist() == [2]


async def test_confirmations_of_an_older_generation_commit_nothing() -> None:
    bench = Bench()
    bench.producer.automatic = False
    await bench.take(record(value_of(0), 0))
    await bench.source.on_partitions_assigned({PLACE})
    bench.producer.sent[0].future.set_result(None)
    await turns()
    assert await bench.committed() == {}


async def test_an_unknown_fate_ends_the_process() -> None:
    bench = Bench()
    bench.producer.automatic = False
    bench.consumer.batches = [{PLACE: [record(value_of(0), 0)]}]
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
        await bench.take(record(value_of(0), 0))


async def test_the_loop_commits_what_it_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "COMMIT_S", 0.0)
    bench = Bench()
    bench.consumer.batches = [{PLACE: [record(value_of(n), n)]} for n in range(3)]
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 3)
        await bench.consumer.listener.on_partitions_assigned({PLACE})
        assert bench.source.joined.is_set()


async def test_a_tick_takes_all_that_a_fetch_brought() -> None:
    bench = Bench()
    asked: list[int] = []
    bench.source.ask = lambda: asked.append(len(bench.consumer.batches))
    pieces = [RecordColumns.of(REQUESTS, 0, [record(value_of(n), n)]) for n in range(2)]
    bench.consumer.batches = [{PLACE: pieces}]
    fetched = await bench.edge._fetch()
    assert [fetched[PLACE].record(at).offset for at in range(2)] == [0, 1]
    assert await bench.edge._fetch() == {}
    assert asked == [1, 0]


async def test_a_rebalance_while_the_topic_is_looked_at_voids_the_fetch() -> None:
    bench = Bench()
    bench.consumer.batches = [{PLACE: [record(value_of(0), 0)]}, {}, {PLACE: [record(value_of(1), 1)]}]

    class Doubt:
        def rise(self) -> None:
            return None

        async def settle(self) -> None:
            if bench.consumer.offsets == {}:
                await bench.source.on_partitions_assigned({PLACE})
                bench.consumer.offsets[PLACE] = 1

    bench.edge._doubt = Doubt()  # type: ignore[assignment]
    async with running(bench):
        await until(lambda: bench.producer.sent)
    assert [Columns.of(made).offsets.tolist() for made in bench.frames("inference.admitted")] == [[1]]


async def test_a_met_id_waits_and_holds_the_offset_back() -> None:
    bench = Bench()
    await bench.take(record(VALUE, 0), record(VALUE, 1), record(value_of(2), 2))
    assert [Columns.of(made).offsets.tolist() for made in bench.frames("inference.admitted")] == [[0, 2]]
    (late,) = bench.late.waiting
    assert (late.row.offset, late.claim.place, late.earlier and late.earlier.place) == (1, (0, 1), (0, 0))
    assert await bench.committed() == {}
    late.holder[0].finish(late.holder[1])
    assert await bench.committed() == {PLACE: 3}


async def test_a_met_id_that_may_not_wait_is_ended_at_once() -> None:
    bench = Bench()
    bench.late.full = True
    await bench.take(record(VALUE, 0), record(VALUE, 1))
    (ended,) = bench.frames("inference.executed")
    assert [error.code for error in ended.errors] == ["duplicate_in_flight"]
    assert await bench.committed() == {PLACE: 2}


async def test_only_rows_that_passed_claim_an_id() -> None:
    bench = Bench()
    bench.quota.refused = {0: 1}
    await bench.take(record(VALUE, 0), record(value_of(1, model="nobody"), 1), record(b"?", 2), record(value_of(3), 3))
    assert list(bench.ids.held) == [b"default/r3"]


async def test_the_spans_of_claims_are_without_a_hole() -> None:
    bench = Bench()
    bench.consumer.offsets[PLACE] = 4
    await bench.take(record(value_of(6), 6), record(b"?", 8))
    await bench.take(record(value_of(9), 9))
    assert bench.ids.spans == [{0: Span(4, 9)}, {0: Span(9, 10)}]
    assert bench.ids.forgotten == [0]


async def test_large_rows_and_blobs_are_stored_beside_the_loop() -> None:
    bench = Bench()
    large = (Tensor("x", "FP32", (128, 2), bytes(1024)),)
    larger = (Tensor("x", "FP32", (129, 2), bytes(1032)),)
    blob = value_of(2, inputs=(Tensor("x", "FP32", (1, 2), b""),), blob=BlobRef("ab" * 32, 8))
    await bench.take(record(value_of(0, inputs=large), 0), record(value_of(1, inputs=larger), 1), record(blob, 2))
    assert [late.row.offset for late in bench.late.storing] == [2]
    bench.edge._blob_bytes = 1000
    await bench.take(record(value_of(3, inputs=large), 3))
    assert [late.row.offset for late in bench.late.storing] == [2, 3]
    assert await bench.committed() == {}


async def test_nothing_of_a_tick_leaves_before_its_letters_stand() -> None:
    bench = Bench()
    bench.letter_error = RetriableError("the dead letters are away")
    with pytest.raises(RetriableError):
        await bench.take(record(value_of(0), 0), record(b"?", 1))
    assert bench.producer.sent == []
    assert await bench.committed() == {}


async def test_the_letters_of_a_tick_are_written_together() -> None:
    bench = Bench()
    written: list[int] = []

    async def write(letters: Sequence[Letter]) -> None:
        written.append(len(letters))

    bench.edge._write_letters = write
    await bench.take(*[record(b"?", n) for n in range(50)])
    assert written == [50]


async def test_a_failure_beside_the_loop_ends_the_process() -> None:
    bench = Bench()
    bench.late.error = RetriableError("beside")
    async with running(bench) as task:
        await asyncio.wait({task}, timeout=5)
        assert isinstance(task.exception(), RetriableError)


class FakeDoubt:
    """Counts the reasons for a doubt; settling fails with ``error`` where there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.num_reasons = 0
        self.num_settled = 0

    def rise(self) -> None:
        self.num_reasons += 1

    async def settle(self) -> None:
        self.num_settled += 1
        if self.error is not None:
            raise self.error


async def test_a_rebalance_and_a_log_that_went_back_are_reasons_to_ask_for_the_topic() -> None:
    bench = Bench()
    doubt = bench.edge._doubt = FakeDoubt()  # type: ignore[assignment]
    for offset, reasons in ((7, 1), (8, 1), (2, 2), (3, 2)):
        await bench.edge._settle({PLACE: columns_of(REQUESTS, 0, [record(VALUE, offset)])})
        await bench.take(record(VALUE, offset))
        assert (offset, doubt.num_reasons) == (offset, reasons)
    assert doubt.num_settled == 4
    bench.source.generation += 1
    await bench.edge._settle({PLACE: columns_of(REQUESTS, 0, [record(VALUE, 4)])})
    assert doubt.num_reasons == 3


async def test_what_was_fetched_of_another_topic_is_not_sent() -> None:
    bench = Bench()
    bench.edge._doubt = FakeDoubt(RetriableError("re-created"))  # type: ignore[assignment]
    bench.consumer.batches = [{PLACE: [record(VALUE, 0)]}]
    with pytest.raises(RetriableError, match="re-created"):
        await asyncio.wait_for(bench.edge.run(), 5)
    assert bench.producer.sent == []
    assert bench.consumer.commits == []

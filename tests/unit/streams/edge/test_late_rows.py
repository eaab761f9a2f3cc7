"""Rows beside the loop: each rule of a repeated id once, blobs, bounds, and rebalances in the middle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.frame import InferenceFrame
from schemas.request import BlobRef, Tensor
from streams.blobs.content_store import StoreUnwritableError
from streams.codec import Codec, SchemaIds
from streams.columns import OK, REJECTED, Columns
from streams.committed import CommittedConsumer, Holder
from streams.edge import late_rows
from streams.edge.earlier import NOT_FOUND, UNDER_WAY, Outcome
from streams.edge.late_rows import LateRow, LateRows, late_row
from streams.edge.request_ids import NO_DIGEST, Claim
from streams.edge.request_row import input_digest
from streams.edge.row_outlet import RowOutlet
from streams.errors import RetriableError
from streams.frame_builder import Row
from streams.topics import full_name
from tests.support import samples
from tests.support.fake_kafka import FakeConsumer, FakeProducer, turns, until
from tests.support.frames import TOPIC_ID, row

CODEC = Codec(SchemaIds.local())
PLACE = TopicPartition("in", 0)
SAME, OTHER = b"s" * 16, b"o" * 16
ANSWER = replace(
    samples.SAMPLES["InferenceResult"], status="OK", error=None, outputs=(Tensor("y", "FP32", (1, 2), bytes(8)),)
)
ANSWERED, FAILED = Outcome("ended", ANSWER), Outcome("ended")
FIRST = Claim(0, 1, 5, SAME)


class FakeEarlier:
    """Gives the outcomes that the test sets; ``error`` is raised; ``hook`` runs inside a look."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.looks: list[list[tuple[int, int]]] = []
        self.records: dict[tuple[int, int], Any] = {}
        self.error: Exception | None = None
        self.request_error: Exception | None = None
        self.hook: Any = None
        self.closed = False

    async def look(self, claims: Iterable[Claim]) -> dict[tuple[int, int], Outcome]:
        self.looks.append([claim.place for claim in claims])
        if self.hook is not None:
            await self.hook()
        if self.error is not None:
            raise self.error
        return {place: self.outcomes[place] for place in self.looks[-1] if place in self.outcomes}

    async def request(self, claim: Claim) -> Any:
        if self.request_error is not None:
            raise self.request_error
        return self.records.get(claim.place)

    async def close(self) -> None:
        self.closed = True


class FakeIds:
    """``holders``: whom a take-over finds, in turn; without any it succeeds. ``met``: what a claim meets."""

    def __init__(self) -> None:
        self.holders: list[Claim] = []
        self.taken: list[tuple[Claim, Claim]] = []
        self.claimed: list[Claim] = []
        self.met: Claim | None = None

    async def take_over(self, key: bytes, expected: Claim, claim: Claim) -> Claim:
        self.taken.append((expected, claim))
        return self.holders.pop(0) if self.holders else claim

    async def claim(self, claims: Sequence[tuple[bytes, bytes]], spans: Any) -> dict[int, Claim]:
        assert spans == {}
        self.claimed += [Claim.unpack(packed) for _, packed in claims]
        return {} if self.met is None else {0: self.met}


class FakeBlobs:
    """A store in a dictionary; ``gate`` holds every call back."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.touched: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def put(self, data: bytes) -> BlobRef:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        digest = sha256(data).hexdigest()
        self.stored[digest] = data
        return BlobRef(digest, len(data))

    async def touch(self, digest: str) -> bool:
        if self.error is not None:
            raise self.error
        self.touched.append(digest)
        return digest in self.stored


class Bench:
    """Late rows of one partition."""

    def __init__(self) -> None:
        self.consumer, self.producer = FakeConsumer(), FakeProducer()
        self.ids, self.earlier, self.blobs = FakeIds(), FakeEarlier(), FakeBlobs()
        self.source = CommittedConsumer(self.consumer, "in")  # type: ignore[arg-type]
        outlet = RowOutlet(self.source, self.producer, CODEC, lambda: 3, TOPIC_ID)  # type: ignore[arg-type]
        self.late = LateRows(
            self.source,
            outlet,
            self.ids,  # type: ignore[arg-type]
            self.earlier,  # type: ignore[arg-type]
            self.blobs,  # type: ignore[arg-type]
            lambda record: record,
        )

    def holder(self, end: int) -> Holder:
        progress = self.source.progress(PLACE)
        return progress, progress.window.start(end)

    def meets(self, offset: int, earlier: Claim = FIRST, digest: bytes = SAME) -> LateRow:
        """Queue a row of its own tick that met ``earlier``."""
        holder = self.holder(offset + 1)
        late = LateRow(holder, row(offset), b"k%d" % offset, Claim(0, offset, 9, digest), earlier)
        assert self.late.wait(late)
        holder[0].finish(holder[1])
        return late

    def stores(self, made: Row) -> None:
        holder = self.holder(made.offset + 1)
        self.late.store([late_row(holder, made, b"key", 0)])
        holder[0].finish(holder[1])

    def frames(self, topic: str) -> list[InferenceFrame]:
        return [CODEC.decode(topic, each.value) for each in self.producer.sent if each.topic == full_name(topic)]

    async def left(self, count: int = 1) -> None:
        """Wait until rows have left in this many frames, and confirm that their offsets may be committed."""
        await until(lambda: len(self.producer.sent) >= count)
        await turns()

    async def error(self) -> Any:
        await self.left()
        (frame,) = self.frames("inference.executed")
        (error,) = frame.errors
        assert set(frame.statuses) == {REJECTED}
        return error

    async def committed(self) -> int | None:
        await self.source.commit()
        return self.consumer.offsets.get(PLACE)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    running = asyncio.ensure_future(made.late.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert made.earlier.closed


async def test_the_earlier_answer_again(bench: Bench) -> None:
    bench.earlier.outcomes[0, 1] = ANSWERED
    bench.meets(7)
    bench.meets(8)
    await bench.left()
    (frame,) = bench.frames("inference.executed")
    assert (set(frame.statuses), Columns.of(frame).offsets.tolist()) == ({OK}, [7, 8])
    assert {(segment.cached, segment.model) for segment in frame.segments} == {(True, ANSWER.model)}
    assert await bench.committed() == 9
    assert bench.late.counts.num_answered_again == 2


async def test_still_under_way(bench: Bench) -> None:
    bench.earlier.outcomes[0, 1] = UNDER_WAY
    bench.meets(7)
    error = await bench.error()
    assert (error.code, error.retry_after_ms) == ("duplicate_in_flight", 0)
    assert "partition 0 offset 1 " in error.message
    assert await bench.committed() == 8


@pytest.mark.parametrize("outcome", [UNDER_WAY, ANSWERED])
async def test_another_input(bench: Bench, outcome: Outcome) -> None:
    bench.earlier.outcomes[0, 1] = outcome
    bench.meets(7, digest=OTHER)
    assert (await bench.error()).code == "id_conflict"
    assert bench.late.counts.num_conflicts == 1


@pytest.mark.parametrize("digest", [SAME, OTHER])
async def test_one_that_did_not_end_ok_frees_its_id(bench: Bench, digest: bytes) -> None:
    bench.earlier.outcomes[0, 1] = FAILED
    late = bench.meets(7, digest=digest)
    await bench.left()
    (frame,) = bench.frames("inference.admitted")
    assert Columns.of(frame).offsets.tolist() == [7]
    assert bench.ids.taken == [(FIRST, late.claim)]
    assert await bench.committed() == 8


async def test_a_freed_id_that_another_took_first(bench: Bench) -> None:
    bench.earlier.outcomes |= {(0, 1): FAILED, (0, 5): UNDER_WAY}
    bench.ids.holders = [Claim(0, 5, 5, SAME)]
    bench.meets(7)
    error = await bench.error()
    assert (error.code, "offset 5 " in error.message) == ("duplicate_in_flight", True)
    assert bench.earlier.looks == [[(0, 1)], [(0, 5)]]
    assert await bench.committed() == 8


async def test_an_id_that_is_always_taken_is_given_up(bench: Bench) -> None:
    bench.earlier.outcomes = dict.fromkeys([(0, n) for n in range(20)], FAILED)
    bench.ids.holders = [Claim(0, n, 5, SAME) for n in range(2, 20)]
    bench.meets(99)
    error = await bench.error()
    assert (error.code, error.retry_after_ms) == ("duplicate_in_flight", late_rows.RETRY_AFTER_MS)
    assert len(bench.ids.taken) == late_rows.MAX_HOLDERS + 1


@pytest.mark.parametrize(("found", "code"), [(SAME, ""), (OTHER, "id_conflict")])
async def test_a_digest_that_is_not_known_is_taken_from_the_request(bench: Bench, found: bytes, code: str) -> None:
    bench.earlier.outcomes[0, 1] = ANSWERED
    bench.earlier.records[0, 1] = found
    bench.meets(7, replace(FIRST, digest=NO_DIGEST))
    await bench.left()
    (frame,) = bench.frames("inference.executed")
    assert [error.code for error in frame.errors] == ([code] if code else [])


async def test_a_request_that_is_gone_frees_its_id(bench: Bench) -> None:
    bench.earlier.outcomes[0, 1] = ANSWERED
    bench.meets(7, replace(FIRST, digest=NO_DIGEST))
    await bench.left()
    assert len(bench.frames("inference.admitted")) == 1


async def test_a_look_that_reached_its_bound_is_taken_up_again(bench: Bench) -> None:
    bench.earlier.outcomes[0, 1] = NOT_FOUND
    bench.meets(7)
    await until(lambda: len(bench.earlier.looks) == 2)
    bench.earlier.outcomes[0, 1] = ANSWERED
    await bench.left()
    assert [set(frame.statuses) for frame in bench.frames("inference.executed")] == [{OK}]
    assert await bench.committed() == 8


async def test_what_cannot_be_looked_up_now_is_told_to_come_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.earlier.error = RetriableError("the broker is away")
    bench.meets(7)
    await bench.left(1)
    bench.earlier.error = None
    bench.earlier.outcomes |= {(0, 2): NOT_FOUND, (0, 3): ANSWERED}
    monkeypatch.setattr(late_rows, "MAX_LOOKS", 0)
    bench.earlier.request_error = RetriableError("the broker is away")
    bench.meets(8, Claim(0, 2, 5, SAME))
    await bench.left(2)
    bench.meets(9, Claim(0, 3, 5, NO_DIGEST))
    await bench.left(3)
    errors = [error for frame in bench.frames("inference.executed") for error in frame.errors]
    assert [(error.code, error.retry_after_ms) for error in errors] == [("duplicate_in_flight", 1_000)] * 3
    assert await bench.committed() == 10


async def test_rows_of_a_flood_share_looks(bench: Bench) -> None:
    release = asyncio.Event()
    bench.earlier.outcomes[0, 1] = UNDER_WAY
    bench.earlier.hook = release.wait
    bench.meets(7)
    await until(lambda: bench.earlier.looks)
    for offset in range(8, 108):
        bench.meets(offset)
    release.set()
    await bench.left(2)
    assert [len(look) for look in bench.earlier.looks] == [1, 100]
    assert await bench.committed() == 108


async def test_too_many_are_told_to_come_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, value in (("MAX_WAITING", 0), ("MAX_WAITING_BYTES", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(late_rows, limit, value)
            late = LateRow(bench.holder(1), row(7), b"k", Claim(0, 7, 9, SAME), FIRST)
            assert not bench.late.wait(late)
        assert late.row.error is not None
        assert (late.row.error.code, late.row.error.retry_after_ms) == ("duplicate_in_flight", 1_000)


async def test_a_rebalance_during_a_look_sends_nothing(bench: Bench) -> None:
    bench.earlier.outcomes[0, 1] = ANSWERED

    async def rebalance() -> None:
        await bench.source.on_partitions_assigned({PLACE})

    bench.earlier.hook = rebalance
    bench.meets(7)
    await until(lambda: bench.earlier.looks)
    await turns()
    bench.meets(8)  # of the new generation, so that the round before it has ended
    bench.earlier.hook = None
    await bench.left()
    assert [Columns.of(frame).offsets.tolist() for frame in bench.frames("inference.executed")] == [[8]]


def large_row(offset: int, **fields: Any) -> Row:
    made = row(offset)
    made.items, made.blocks = 1, (("a", "INT8", (3,), b"abc"), ("b", "INT8", (2,), b"de"))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def test_a_large_row_leaves_as_a_blob(bench: Bench) -> None:
    wanted = input_digest(large_row(7))
    bench.stores(large_row(7))
    await bench.left()
    (frame,) = bench.frames("inference.admitted")
    (segment,) = frame.segments
    assert segment.blob is not None
    assert bench.blobs.stored[segment.blob.digest] == b"abcde"
    assert [(block.name, block.item_shape, block.data) for block in segment.inputs] == [
        ("a", (3,), b""),
        ("b", (2,), b""),
    ]
    assert [(claim.place, claim.digest) for claim in bench.ids.claimed] == [((0, 7), wanted)]
    assert await bench.committed() == 8


async def test_a_named_blob_is_touched(bench: Bench) -> None:
    ref = await bench.blobs.put(b"abcde")
    blocks = (("a", "INT8", (3,), b""), ("b", "INT8", (2,), b""))
    bench.stores(large_row(7, blob=ref, blocks=blocks))
    await bench.left()
    assert bench.frames("inference.admitted")[0].segments[0].blob == ref
    assert bench.blobs.touched == [ref.digest]
    assert bench.ids.claimed[0].digest == input_digest(large_row(7))


async def test_a_blob_that_is_not_there_ends_its_request_without_a_claim(bench: Bench) -> None:
    bench.stores(large_row(7, blob=BlobRef("ab" * 32, 5)))
    await bench.left()
    (frame,) = bench.frames("inference.executed")
    assert [error.code for error in frame.errors] == ["blob_missing"]
    assert bench.ids.claimed == []
    assert await bench.committed() == 8


async def test_a_store_that_takes_nothing_loses_nothing(bench: Bench) -> None:
    bench.blobs.error = StoreUnwritableError("/blobs", "no space left")
    bench.stores(large_row(7))
    bench.stores(large_row(8, blob=BlobRef("ab" * 32, 5)))
    await bench.left(2)
    segments = [segment for frame in bench.frames("inference.admitted") for segment in frame.segments]
    inline, named = sorted(segments, key=lambda each: each.blob is not None)
    assert (inline.blob, b"".join(block.data for block in inline.inputs)) == (None, b"abcde")
    assert named.blob == BlobRef("ab" * 32, 5)  # its executor says whether it is there
    assert await bench.committed() == 9


async def test_a_large_row_may_meet_an_earlier_request_too(bench: Bench) -> None:
    bench.ids.met = Claim(0, 1, 5, input_digest(large_row(0)))
    bench.earlier.outcomes[0, 1] = ANSWERED
    bench.stores(large_row(7))
    await bench.left()
    assert [set(frame.statuses) for frame in bench.frames("inference.executed")] == [{OK}]
    assert await bench.committed() == 8


async def test_the_bytes_under_way_into_the_store_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_rows, "MAX_STORING_BYTES", 10)
    bench.blobs.gate.clear()
    bench.stores(large_row(7))
    await turns()
    assert not bench.late.is_full
    bench.stores(large_row(8))
    await turns()
    assert bench.late.is_full
    bench.blobs.gate.set()
    await bench.left(2)
    assert not bench.late.is_full


async def test_a_defect_beside_the_loop_ends_the_process(bench: Bench) -> None:
    bench.blobs.error = ZeroDivisionError()
    bench.stores(large_row(7))
    await until(lambda: bench.source.failed)
    assert await bench.committed() is None

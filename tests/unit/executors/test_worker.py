"""The executor's loop with a hand-made consumer and session: every row ends once, offsets only behind what stands."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from executors import worker as worker_module
from executors.lanes import ROUTED
from executors.long_runs import MAX_THREADS
from executors.profile import Profile
from executors.session import ExecutionError
from executors.worker import Worker
from schemas.frame import InferenceFrame
from schemas.quick import replaced
from schemas.request import BlobRef
from streams.blobs.blob_store import BlobCorruptError, BlobMissingError, StoreUnreadableError
from streams.codec import Codec, SchemaIds
from streams.columns import ERROR, EXPIRED, OK, PENDING, REJECTED, SHADOW, Columns, block_array
from streams.errors import RetriableError
from streams.frame_builder import Row
from streams.topics import full_name
from tests.support.fake_kafka import FakeConsumer, FakeProducer, record, turns, until
from tests.support.frames import MODEL, frame, row, with_blob

CODEC = Codec(SchemaIds.local())
PLACE = TopicPartition(ROUTED, 0)
KEY = ("digits", "v1.0.0")
LATER = time.time_ns() // 1000 + 600_000_000
Outputs = Callable[[np.ndarray], np.ndarray]


class FakeSession:
    """A session that triples; batches with a poisoned item fail as a whole.

    So do, in passing, those with an item of ``passing``, until it failed that often by itself.
    """

    def __init__(
        self, poisoned: set[int] | None = None, output: Outputs | None = None, code: str = "execution_failed"
    ) -> None:
        self.model = MODEL
        self.provider = "CPUExecutionProvider"
        self.reentrant = True
        self.profile = Profile(10.0, 1.0, 64)
        self.poisoned = poisoned or set()
        self.passing: dict[int, int] = {}
        self.code = code
        self.output = output or (lambda x: np.repeat(x[:, :1], 3, axis=1))
        self.batches: list[list[int]] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        items = inputs["x"][:, 0].astype(int).tolist()
        self.batches.append(items)
        if self.poisoned & set(items):
            raise ExecutionError(self.code, "the model failed")
        weak = [item for item in items if self.passing.get(item)]
        if weak:
            if len(items) == 1:
                self.passing[items[0]] -= 1
            raise ExecutionError("execution_failed", "no memory", transient=True)
        return {"y": self.output(inputs["x"])}


class FakeLoader:
    """Holds a session, or none; remembers what was asked for."""

    def __init__(self, session: FakeSession | None) -> None:
        self.sessions = {} if session is None else {KEY: session}
        self.profiles = {} if session is None else {KEY: session.profile}
        self.failed: list[tuple[tuple[str, str], str]] = []
        self.wanted: set[tuple[str, str]] = set()

    def want(self, model: str, version: str) -> None:
        self.wanted.add((model, version))

    def take_failed(self) -> list[tuple[tuple[str, str], str]]:
        return self.failed


class FakeBlobs:
    """A store in memory; ``broken`` makes it unreadable, ``gate`` holds every fetch back."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.broken = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []

    def store(self, plain: Row) -> Row:
        """The row with its tensors in the store."""
        data = b"".join(block[3] for block in plain.blocks)
        stored = with_blob(plain)
        assert stored.blob is not None
        self.data[stored.blob.digest] = data
        return stored

    async def get(self, ref: BlobRef) -> bytes:
        self.asked.append(ref.digest)
        await self.gate.wait()
        if self.broken:
            self.broken -= 1
            raise StoreUnreadableError(Path("store"), "Input/output error")
        if ref.digest not in self.data:
            raise BlobMissingError(ref.digest)
        data = self.data[ref.digest]
        if hashlib.sha256(data).hexdigest() != ref.digest:
            raise BlobCorruptError(ref.digest, hashlib.sha256(data).hexdigest())
        return data


class Bench:
    """A worker under the test's hands."""

    def __init__(self, session: FakeSession | None = None) -> None:
        self.consumer = FakeConsumer()
        self.producer = FakeProducer()
        self.loader = FakeLoader(session)
        self.blobs = FakeBlobs()
        self.letters: list[str] = []
        self.worker = Worker(
            self.consumer, self.producer, CODEC, self.loader, self.blobs, self._letter, name="executor-0", tick_ms=1  # type: ignore[arg-type]
        )  # fmt: skip

    async def _letter(self, record: Any, error: Any) -> None:
        self.letters.append(error.code)

    def deliver(self, *frames: InferenceFrame | bytes, first: int = 0) -> None:
        values = [each if isinstance(each, bytes) else CODEC.encode("inference.routed", each) for each in frames]
        self.consumer.batches.append({PLACE: [record(value, first + at) for at, value in enumerate(values)]})

    def rows(self) -> dict[int, tuple[int, str, list[float]]]:
        """Status, code and first output value per item of every executed row, by offset; a row twice is an error."""
        found: dict[int, tuple[int, str, list[float]]] = {}
        for each in self.producer.sent:
            assert each.topic == full_name("inference.executed")
            made = CODEC.decode("inference.executed", each.value)
            columns, at, errors = Columns.of(made), 0, {error.row: error.code for error in made.errors}
            for segment in made.segments:
                item = 0
                for _ in range(segment.num_rows):
                    offset, items = int(columns.offsets[at]), int(columns.row_items[at])
                    assert offset not in found
                    values = block_array(segment.outputs[0])[item : item + items, 0].tolist() if segment.outputs else []
                    found[offset] = (made.statuses[at], errors.get(at, ""), values)
                    item, at = item + items, at + 1
        return found


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(bench.worker.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture(autouse=True)
def _commit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "COMMIT_S", 0.0)


def routed(*offsets: int, **given: Any) -> InferenceFrame:
    given = {"version": "v1.0.0", "deadline_us": LATER, **given}
    return frame([row(offset, **given) for offset in offsets])


async def test_a_frame_that_contradicts_itself_is_a_dead_letter() -> None:
    bench = Bench(FakeSession())
    bench.deliver(replaced(routed(0), offsets=b""), routed(2))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)
    assert bench.letters == ["garbage"]
    assert bench.rows() == {2: (OK, "", [2.0])}


async def test_rows_are_executed_with_their_own_inputs_and_offsets_committed() -> None:
    bench = Bench(FakeSession())
    bench.deliver(routed(0, 1, items=2), routed(2, 3), b"garbage")
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 3)
    assert bench.rows() == {
        0: (OK, "", [0.0, 0.0]),
        1: (OK, "", [1.0, 1.0]),
        2: (OK, "", [2.0]),
        3: (OK, "", [3.0]),
    }
    assert bench.letters == ["garbage"]
    assert {each.partition for each in bench.producer.sent} == {1}  # the source partition
    assert bench.worker.held_bytes == bench.worker.queue_depth == 0


async def test_only_the_rows_at_fault_fail() -> None:
    bench = Bench(FakeSession(poisoned={3, 6}))
    bench.deliver(routed(*range(8)))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert {offset: made[:2] for offset, made in bench.rows().items()} == {
        offset: (ERROR, "execution_failed") if offset in (3, 6) else (OK, "") for offset in range(8)
    }
    assert bench.worker.counts.num_failed_rows == 2


async def test_a_code_of_the_door_is_not_given_behind_it() -> None:
    """What admission let through and the session refuses is a defect of ours, not of the request."""
    bench = Bench(FakeSession(poisoned={0}, code="wrong_shape"))
    bench.deliver(routed(0))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert bench.rows() == {0: (ERROR, "internal", [])}


async def test_a_late_row_expires() -> None:
    bench = Bench(FakeSession())
    bench.deliver(frame([row(0, version="v1.0.0", deadline_us=1), row(1, version="v1.0.0", deadline_us=LATER)]))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert bench.rows() == {0: (EXPIRED, "deadline_exceeded", []), 1: (OK, "", [1.0])}


async def test_rows_wait_for_a_model_and_fail_when_it_cannot_be_loaded() -> None:
    bench = Bench()
    bench.deliver(routed(0, 1))
    async with running(bench):
        await until(lambda: bench.loader.wanted == {KEY})
        await turns()
        assert bench.producer.sent == []
        bench.loader.failed = [(KEY, "no blob")]
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    made = CODEC.decode("inference.retries", bench.producer.sent[0].value)
    assert ([each.topic for each in bench.producer.sent], made.attempt) == ([full_name("inference.retries")], 1)
    assert [(error.row, error.code) for error in made.errors] == [(0, "model_unavailable"), (1, "model_unavailable")]
    assert set(made.statuses) == {PENDING}


async def test_rows_that_were_tried_often_enough_end_with_the_version_that_cannot_be_loaded() -> None:
    bench = Bench()
    bench.deliver(replaced(routed(0, 1), attempt=1))
    async with running(bench):
        await until(lambda: bench.loader.wanted == {KEY})
        bench.loader.failed = [(KEY, "no blob")]
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert bench.rows() == {0: (ERROR, "model_unavailable", []), 1: (ERROR, "model_unavailable", [])}


async def test_a_row_that_fails_in_passing_runs_once_more_while_others_go_on() -> None:
    session = FakeSession()
    session.passing = {1: 1}
    bench = Bench(session)
    bench.deliver(routed(0, 1, 2))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert {offset: made[0] for offset, made in bench.rows().items()} == {0: OK, 1: OK, 2: OK}
    assert session.batches[-1] == [1]
    assert (bench.worker.counts.num_failed_rows, bench.worker.counts.num_retried_rows) == (0, 0)


async def test_a_row_that_fails_again_leaves_to_be_tried_elsewhere_and_is_committed_behind_it() -> None:
    session = FakeSession()
    session.passing = {1: 2}
    bench = Bench(session)
    bench.producer.automatic = False
    bench.deliver(routed(0, 1, 2))
    async with running(bench):
        await until(lambda: len(bench.producer.sent) == 2)
        again, executed = sorted(bench.producer.sent, key=lambda each: each.topic, reverse=True)
        assert (again.topic, executed.topic) == (full_name("inference.retries"), full_name("inference.executed"))
        executed.future.set_result(None)
        await asyncio.sleep(1.2)  # longer than the loop waits between two commits
        assert bench.consumer.offsets == {}
        again.future.set_result(None)
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    made = CODEC.decode("inference.retries", again.value)
    (segment,), (error,) = made.segments, made.errors
    assert (again.partition, made.partition, Columns.of(made).offsets.tolist()) == (1, 1, [1])
    assert (made.attempt, list(made.statuses), made.executed_us) == (1, [PENDING], 0)
    assert 0 <= made.not_before_us - time.time_ns() // 1000 + 10_000_000 < 10_050_000
    assert (segment.version, segment.inputs[0].data, segment.outputs) == ("v1.0.0", np.full(2, 1, "<f4").tobytes(), ())
    assert (error.code, error.message) == ("execution_failed", "no memory")
    assert bench.worker.counts.num_retried_rows == 1
    bench.producer.sent.remove(again)
    assert {offset: each[0] for offset, each in bench.rows().items()} == {0: OK, 2: OK}


async def test_outputs_larger_than_inputs_leave_in_frames_that_fit() -> None:
    wide = FakeSession(output=lambda x: np.repeat(x[:, :1], 100_000, axis=1))  # 400 kB per item
    bench = Bench(wide)
    bench.deliver(routed(*range(7)))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert {offset: made[0] for offset, made in bench.rows().items()} == dict.fromkeys(range(7), OK)
    assert max(len(each.value or b"") for each in bench.producer.sent) < 1_100_000


async def test_a_row_whose_outputs_fit_no_record_fails() -> None:
    huge = FakeSession(output=lambda x: np.repeat(x[:, :1], 1_000_000, axis=1))  # 4 MB per item
    bench = Bench(huge)
    bench.deliver(frame([row(n, version="v1.0.0", deadline_us=LATER, items=n) for n in (1, 3, 2)]))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert {offset: made[:2] for offset, made in bench.rows().items()} == {
        1: (OK, ""),
        3: (ERROR, "output_invalid"),
        2: (OK, ""),
    }


async def test_nothing_is_committed_past_an_unacknowledged_frame() -> None:
    bench = Bench(FakeSession())
    bench.producer.automatic = False
    bench.deliver(routed(0))
    async with running(bench):
        await until(lambda: len(bench.producer.sent) == 1)
        bench.deliver(routed(1), first=1)
        await until(lambda: len(bench.producer.sent) == 2)
        bench.producer.sent[1].future.set_result(None)
        await turns(100)
        assert bench.consumer.commits == []
        bench.producer.sent[0].future.set_result(None)
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)


async def test_a_rebalance_forgets_what_is_under_way() -> None:
    bench = Bench()
    bench.deliver(routed(0, 1))
    async with running(bench):
        await until(lambda: bench.worker.queue_depth == 2)
        assert bench.worker.held_bytes > 0
        await bench.consumer.listener.on_partitions_assigned({PLACE})
        assert (bench.worker.queue_depth, bench.worker.held_bytes) == (0, 0)
        await turns()
        assert bench.producer.sent == []
        assert bench.consumer.commits == []


async def test_frames_are_left_in_the_log_when_too_much_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MAX_HELD_BYTES", 100)
    bench = Bench()
    bench.deliver(routed(0))
    bench.deliver(routed(1), first=1)
    async with running(bench):
        await until(lambda: bench.worker.held_bytes)
        await turns(100)
        assert len(bench.consumer.batches) == 1
        session = FakeSession()
        bench.loader.sessions[KEY], bench.loader.profiles[KEY] = session, session.profile
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_unknown_fate_ends_the_process(at_once: bool) -> None:
    bench = Bench(FakeSession())
    bench.producer.automatic = False
    bench.producer.error = KafkaConnectionError() if at_once else None
    bench.deliver(routed(0))
    async with running(bench) as task:
        if not at_once:
            await until(lambda: bench.producer.sent)
            bench.producer.sent[0].future.set_exception(KafkaConnectionError())
        await asyncio.wait({task}, timeout=5)
        assert isinstance(task.exception(), RetriableError)
    assert bench.consumer.commits == []


class Gated(FakeSession):
    """A session whose batches take long and wait for ``gate``, in whatever thread they run."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.profile = Profile(1e6, 1.0, 64)
        self.gate = threading.Event()
        self.threads: list[str] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.threads.append(threading.current_thread().name)
        assert self.gate.wait(10)
        return super().run(inputs)


def long(offset: int, version: str = "v2.0.0") -> Row:
    return row(offset, version=version, deadline_us=LATER)


async def test_a_long_batch_holds_nobody_back() -> None:
    """Its frame's other rows leave, later frames are executed, and nothing is committed past it."""
    gated = Gated()
    bench = Bench(FakeSession())
    bench.loader.sessions["digits", "v2.0.0"], bench.loader.profiles["digits", "v2.0.0"] = gated, gated.profile
    bench.deliver(frame([row(0, version="v1.0.0", deadline_us=LATER), long(1)]))
    async with running(bench):
        await until(lambda: gated.threads)
        await until(lambda: 0 in bench.rows())
        bench.deliver(routed(2, 3), first=1)
        await until(lambda: {2, 3} <= bench.rows().keys())
        assert 1 not in bench.rows()
        assert bench.consumer.commits == []
        assert bench.worker.held_bytes > 0
        gated.gate.set()
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)
    assert {offset: made[0] for offset, made in bench.rows().items()} == dict.fromkeys(range(4), OK)
    assert threading.main_thread().name not in gated.threads
    assert bench.worker.held_bytes == bench.worker.queue_depth == 0


async def test_so_many_long_batches_run_at_a_time_and_one_of_a_version() -> None:
    bench = Bench()
    gated = {f"v{number}.0.0": Gated() for number in (1, 2, 3)}
    for version, session in gated.items():
        bench.loader.sessions["digits", version], bench.loader.profiles["digits", version] = session, session.profile
    bench.deliver(frame([long(at, f"v{1 + at}.0.0") for at in range(3)]))
    async with running(bench):
        await until(lambda: sum(len(session.threads) for session in gated.values()) == MAX_THREADS)
        bench.deliver(frame([long(3, "v1.0.0")]), first=1)
        await until(lambda: bench.worker.counts.num_frames == 2)
        await turns(100)
        assert sum(len(session.threads) for session in gated.values()) == MAX_THREADS
        for session in gated.values():
            session.gate.set()
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)
    assert {offset: made[0] for offset, made in bench.rows().items()} == dict.fromkeys(range(4), OK)


@pytest.mark.parametrize("reentrant", [True, False])
async def test_urgent_rows_run_beside_a_long_batch_of_their_version(reentrant: bool) -> None:
    """Behind it, where its session can run only one at a time."""
    gated, bench = Gated(), Bench()
    gated.reentrant = reentrant
    bench.loader.sessions[KEY], bench.loader.profiles[KEY] = gated, gated.profile
    bench.deliver(frame([row(0, version="v1.0.0", priority=9, deadline_us=LATER)]))
    async with running(bench):
        await until(lambda: gated.threads)
        urgent = [row(at, version="v1.0.0", priority=9 * (at == 2), deadline_us=LATER) for at in (1, 2)]
        bench.deliver(frame(urgent), first=1)
        if reentrant:
            await until(lambda: len(gated.threads) == 2)
        await until(lambda: bench.worker.counts.num_frames == 2)
        await turns(100)
        assert (len(gated.threads), len(set(gated.threads))) == (1 + reentrant,) * 2
        gated.gate.set()
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)
    assert bench.rows().keys() == {0, 1, 2}


async def test_its_load_is_told_while_there_is_any() -> None:
    gated = Gated()
    bench = Bench()
    bench.loader.sessions[KEY], bench.loader.profiles[KEY] = gated, gated.profile
    assert bench.worker.load(1) is None
    bench.deliver(routed(0))
    async with running(bench):
        await until(lambda: gated.threads)
        bench.deliver(routed(1, 2), first=1)
        await until(lambda: bench.worker.counts.num_frames == 2)
        found = bench.worker.load(time.time_ns() // 1000)
        assert found is not None
        (only,) = found.versions
        assert (only.num_taken, sum(only.waiting_items), only.is_long) == (3, 2, True)
        assert 1.0 <= only.running_us <= gated.profile.time_us(1)
        gated.gate.set()
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)
        last = bench.worker.load(time.time_ns() // 1000)
        assert last is not None
        assert last.versions == ()
        assert bench.worker.load(1) is None


async def test_a_rebalance_while_a_long_batch_runs_forgets_it() -> None:
    gated = Gated()
    bench = Bench()
    bench.loader.sessions[KEY], bench.loader.profiles[KEY] = gated, gated.profile
    bench.deliver(routed(0))
    async with running(bench):
        await until(lambda: gated.threads)
        await bench.consumer.listener.on_partitions_assigned({PLACE})
        bench.deliver(routed(0))
        await until(lambda: bench.worker.counts.num_frames == 2)
        await turns(100)
        assert len(gated.threads) == 1  # the session is not asked twice at a time
        gated.gate.set()
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
        await turns(100)
    assert bench.rows() == {0: (OK, "", [0.0])}  # once: ``rows`` refuses a row that was sent twice


async def test_a_defect_in_a_thread_ends_the_process() -> None:
    bench = Bench()

    class Broken(FakeSession):
        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            raise ZeroDivisionError

    broken = Broken()
    bench.loader.sessions[KEY], bench.loader.profiles[KEY] = broken, Profile(1e6, 1.0, 64)
    bench.deliver(routed(0))
    async with running(bench) as task:
        await asyncio.wait({task}, timeout=5)
        assert isinstance(task.exception(), ZeroDivisionError)
    assert bench.consumer.commits == []


def with_blobs(bench: Bench, *offsets: int, **given: Any) -> list[Row]:
    given = {"version": "v1.0.0", "deadline_us": LATER, **given}
    return [bench.blobs.store(row(offset, **given)) for offset in offsets]


async def test_rows_with_a_blob_ride_in_batches_once_they_are_fetched() -> None:
    bench = Bench(FakeSession())
    bench.blobs.gate.clear()
    bench.deliver(frame([row(0, version="v1.0.0", deadline_us=LATER), *with_blobs(bench, 1, 2, items=2)]))
    async with running(bench):
        await until(lambda: 0 in bench.rows())  # the inline row does not wait for the others
        assert len(bench.blobs.asked) == 2
        assert bench.worker.queue_depth == 4
        assert bench.consumer.commits == []
        bench.blobs.gate.set()
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert bench.rows() == {0: (OK, "", [0.0]), 1: (OK, "", [1.0, 1.0]), 2: (OK, "", [2.0, 2.0])}
    assert bench.worker.held_bytes == bench.worker.queue_depth == 0
    assert bench.worker.counts.num_blobs == 2


async def test_a_blob_that_is_gone_or_changed_ends_only_its_row() -> None:
    bench = Bench(FakeSession())
    gone, changed, sound = with_blobs(bench, 0, 1, 2)
    assert gone.blob
    assert changed.blob
    del bench.blobs.data[gone.blob.digest]
    bench.blobs.data[changed.blob.digest] = b"other..."
    bench.deliver(frame([gone, changed, sound]))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert bench.rows() == {0: (ERROR, "blob_missing", []), 1: (ERROR, "blob_corrupt", []), 2: (OK, "", [2.0])}
    assert bench.worker.held_bytes == bench.worker.queue_depth == 0


async def test_what_the_door_could_not_see_in_a_blob_is_refused_here() -> None:
    bench = Bench(FakeSession())
    bad = row(0, version="v1.0.0", deadline_us=LATER)
    bad.blocks = (("x", "FP32", (2,), np.array([1, np.nan], "<f4").tobytes()),)
    bench.deliver(frame([bench.blobs.store(bad), *with_blobs(bench, 1)]))
    async with running(bench):
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert bench.rows() == {0: (REJECTED, "not_finite", []), 1: (OK, "", [1.0])}


async def test_a_rebalance_forgets_blobs_under_way() -> None:
    bench = Bench(FakeSession())
    bench.blobs.gate.clear()
    bench.deliver(frame(with_blobs(bench, 0, 1)))
    async with running(bench):
        await until(lambda: len(bench.blobs.asked) == 2)
        assert bench.worker.held_bytes > 0
        await bench.consumer.listener.on_partitions_assigned({PLACE})
        assert (bench.worker.queue_depth, bench.worker.held_bytes) == (0, 0)
        bench.blobs.gate.set()
        await turns(100)
        assert bench.producer.sent == []
        assert (bench.worker.queue_depth, bench.worker.held_bytes) == (0, 0)
        bench.deliver(frame(with_blobs(bench, 0, 1)))
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert {offset: made[0] for offset, made in bench.rows().items()} == {0: OK, 1: OK}


async def test_a_batch_that_a_rebalance_overtakes_is_not_answered_here() -> None:
    session = FakeSession(output=lambda x: (time.sleep(0.05), np.repeat(x[:, :1], 3, axis=1))[1])
    session.profile = Profile(1e6, 1.0, 64)  # slow: runs in a thread
    bench = Bench(session)
    bench.deliver(frame(with_blobs(bench, 0)))
    async with running(bench):
        await until(lambda: session.batches)
        await bench.consumer.listener.on_partitions_assigned({PLACE})
        await until(lambda: len(session.batches) == 1)
        bench.deliver(frame(with_blobs(bench, 0)))
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert len(session.batches) == 2
    assert bench.rows() == {0: (OK, "", [0.0])}
    assert bench.worker.held_bytes == 0


async def test_a_batch_that_ends_in_a_thread_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LONG_MS", 60_000)  # nothing but the batch's end may wake the loop
    monkeypatch.setattr(worker_module, "IDLE_MS", 60_000)
    session = FakeSession()
    session.profile = Profile(1e6, 1.0, 1)  # in a thread, row by row
    bench = Bench(session)
    never = asyncio.Event()

    async def getmany(*_: Any, **__: Any) -> dict[Any, list[Any]]:
        if not bench.consumer.batches:
            await never.wait()
        return bench.consumer.batches.pop(0)

    monkeypatch.setattr(bench.consumer, "getmany", getmany)
    bench.deliver(routed(0, 1, 2, 3, 4))
    async with running(bench):
        await until(lambda: len(bench.rows()) == 5)
    assert len(session.batches) == 5


def copied(*offsets: int) -> InferenceFrame:
    return replaced(routed(*offsets, priority=9), roles=bytes([SHADOW]) * len(offsets))


async def test_copies_run_behind_the_rows_and_hold_no_offset_back() -> None:
    bench = Bench(FakeSession())
    bench.producer.automatic = False
    bench.deliver(copied(0, 1), routed(2))
    async with running(bench):
        await until(lambda: len(bench.producer.sent) == 2)
        rows, copies = (CODEC.decode("inference.executed", each.value) for each in bench.producer.sent)
        assert (Columns.of(rows).offsets.tolist(), Columns.of(copies).offsets.tolist()) == ([2], [0, 1])
        assert (set(rows.roles), set(copies.roles), set(copies.statuses)) == ({0}, {SHADOW}, {OK})
        bench.producer.sent[0].future.set_result(None)
        await until(lambda: bench.consumer.offsets.get(PLACE) == 2)
        bench.producer.sent[1].future.set_result(None)
    telemetry = bench.worker.attempts(0)
    assert telemetry is not None
    assert [part.num_rows for part in telemetry.models] == [1]


async def test_copies_that_fail_are_tried_nowhere_else() -> None:
    bench = Bench(FakeSession(poisoned={1}))
    bench.deliver(copied(0, 1))
    async with running(bench):
        await until(lambda: len(bench.rows()) == 2)
        await until(lambda: bench.consumer.offsets.get(PLACE) == 1)
    assert {offset: made[:2] for offset, made in bench.rows().items()} == {0: (OK, ""), 1: (ERROR, "execution_failed")}
    assert bench.worker.attempts(0) is None

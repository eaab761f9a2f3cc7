"""One partition's run: confirmations in order, nothing acknowledged too early, a failure gives the partition up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
)

from agents.router import ROUTER, RouterParams, RouterState
from agents.validator import VALIDATOR, ValidatorState
from schemas.frame import InferenceFrame
from schemas.ledger import LedgerCheckpoint
from streams.agent import AgentSpec, Effects, Event, Tick
from streams.codec import Codec, SchemaIds
from streams.columns import Columns
from streams.errors import FencedError, InvariantError, PoisonRecordError
from streams.frame_effects import Defer, Scanned, ScanRequests, SendFrame
from streams.interpreter import FrameCounts
from streams.partition_run import PartitionRun
from streams.run_effects import SendFailedError
from streams.run_window import WINDOW
from streams.takeover import FrameLostError, HeldPartition
from streams.terminals import Terminals
from tests.support import cached
from tests.support.fake_kafka import FakeEvent, FakeProducer, turns, until
from tests.support.frames import MODEL, TOPIC_ID, executed, frame, memory, plan, row
from tests.support.results import records_of

CODEC = Codec(SchemaIds.local())
FAR_US = 1 << 61


class FakeResults:
    """A writer whose confirmations the test gives."""

    def __init__(self) -> None:
        self.age_s = 0.0
        self.writes: list[asyncio.Future[tuple[int, int]]] = []
        self.records: list[Any] = []
        self.refuse: Exception | None = None

    async def submit_batches(self, batches: list[Any]) -> asyncio.Future[tuple[int, int]]:
        if self.refuse is not None:
            raise self.refuse
        self.records += records_of(batches)
        self.writes.append(asyncio.get_running_loop().create_future())
        return self.writes[-1]

    async def confirm(self, submission: asyncio.Future[tuple[int, int]]) -> tuple[int, int]:
        return await submission


class FakeLedger:
    """A ledger that keeps checkpoints and gives the scan that the test prepared."""

    def __init__(self) -> None:
        self.results = FakeResults()
        self.checkpoints: list[LedgerCheckpoint] = []
        self.scanned: Scanned | Exception | None = None
        self.refuse: Exception | None = None

    async def write_checkpoint(self, checkpoint: LedgerCheckpoint) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.checkpoints.append(checkpoint)

    async def scan(self, request: ScanRequests) -> Scanned:
        if isinstance(self.scanned, Exception):
            raise self.scanned
        assert self.scanned is not None
        return self.scanned


class Shell:
    """What a run uses of the interpreter."""

    def __init__(self, spec: AgentSpec, topic: str) -> None:
        self.spec = spec
        self.codec = CODEC
        self.producer = FakeProducer(automatic=False)
        self.memory = SimpleNamespace(view=memory(MODEL))
        self.counts = FrameCounts()
        self.current = True
        self.check: Callable[[InferenceFrame], Awaitable[None]] | None = None
        self.look_up: Callable[[Any], Awaitable[Any]] | None = None
        self.fill: Callable[[Any], None] | None = None
        self.lost: list[BaseException] = []
        self.takeover = SimpleNamespace(is_current=lambda _held: self.current, frame_lost=self.lost.append)
        self.letters: list[tuple[bytes | None, str, int]] = []
        self._topic = topic

    async def decode(self, value: bytes | None) -> InferenceFrame:
        made: InferenceFrame = CODEC.decode(self._topic, value)
        return made

    async def dead_letter(self, record: Any, error: PoisonRecordError) -> None:
        self.letters.append((record.value, error.code, record.offset))


class Bench:
    """A run under the test's hands."""

    def __init__(self, spec: AgentSpec, topic: str, ledger: FakeLedger | None, state: Any) -> None:
        self.shell = Shell(spec, topic)
        self.held = HeldPartition("t", 1, 1)
        self.ledger = ledger
        self.run = PartitionRun(self.shell, self.held, ledger, state)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(self.run.run())
        self.topic = topic

    async def feed(self, made: InferenceFrame | bytes | None, offset: int) -> FakeEvent:
        value = CODEC.encode(self.topic, made) if isinstance(made, InferenceFrame) else made
        event = FakeEvent(value, offset)
        await self.held.events.put(event)
        return event

    async def failure(self) -> BaseException | None:
        await asyncio.wait({self.task}, timeout=5)
        return self.task.exception()


@contextlib.asynccontextmanager
async def ended(bench: Bench) -> AsyncIterator[Bench]:
    try:
        yield bench
    finally:
        bench.task.cancel()
        await asyncio.wait({bench.task})


def validator() -> contextlib.AbstractAsyncContextManager[Bench]:
    state = ValidatorState(TOPIC_ID, 1, Terminals.starting_at(100))
    return ended(Bench(VALIDATOR, "inference.executed", FakeLedger(), state))


def sender(*, defer_until: int | None = None, emits: tuple[str, ...] = ("inference.routed",)) -> Any:
    def decide(state: int, event: Event, params: None) -> tuple[int, Effects]:
        if isinstance(event.record, Tick):
            return state, ()
        if defer_until is not None and event.answers.sequence == 40:
            return state, (Defer(event.record, defer_until),)
        return state + 1, (
            SendFrame("inference.routed", 0, event.record),
            SendFrame("inference.routed", 1, event.record),
        )

    spec = AgentSpec("sender", ("inference.admitted",), emits, lambda _: 0, decide)
    return ended(Bench(spec, "inference.admitted", None, 0))


def routing() -> contextlib.AbstractAsyncContextManager[Bench]:
    """The Router; memory has a plan for ``digits`` only."""
    bench = Bench(replace(ROUTER, params=RouterParams(1, 1 << 60)), "inference.admitted", None, RouterState())
    bench.shell.memory.view = memory(plan("digits", ("v1.0.0", 100)), sequence=40)
    return ended(bench)


def results(bench: Bench) -> FakeResults:
    assert bench.ledger is not None
    return bench.ledger.results


async def test_events_are_acknowledged_in_order_when_all_their_sends_are() -> None:
    async with sender() as bench:
        first, second = await bench.feed(frame([row(1)]), 0), await bench.feed(frame([row(2)]), 1)
        sent = bench.shell.producer.sent
        await until(lambda: len(sent) == 4)
        for number in (2, 3, 0):
            sent[number].future.set_result(None)
        await turns()
        assert (first.acks, second.acks) == (0, 0)
        sent[1].future.set_result(None)
        await turns()
        assert (first.acks, second.acks) == (1, 1)
        assert [each.partition for each in sent] == [0, 1, 0, 1]


async def test_a_failed_send_gives_up_and_keeps_the_unfinished_events() -> None:
    async with sender() as bench:
        events = [await bench.feed(frame([row(n)]), n) for n in range(3)]
        sent = bench.shell.producer.sent
        await until(lambda: len(sent) == 6)
        for number in (0, 1, 4, 5):
            sent[number].future.set_result(None)
        sent[2].future.set_exception(NotLeaderForPartitionError())
        assert isinstance(await bench.failure(), FrameLostError)
        assert [event.acks for event in events] == [1, 0, 0]
        assert bench.held.backlog == events[1:]  # the third finished, but behind one that did not
        sent[3].future.set_result(None)
        await turns()
        assert [event.acks for event in events] == [1, 0, 0]


async def test_a_frame_lost_after_its_run_gave_up_is_told_to_whoever_ends_the_process() -> None:
    """Or the next run would begin with a producer that refuses what stands behind the lost frame, again and again."""
    async with sender() as bench:
        await bench.feed(frame([row(0)]), 0)
        sent = bench.shell.producer.sent
        await until(lambda: len(sent) == 2)
        bench.run.effects.fail(SendFailedError("a dead letter could not be written"))
        assert isinstance(await bench.failure(), SendFailedError)
        assert bench.shell.lost == []
        sent[0].future.set_exception(NotLeaderForPartitionError())
        await turns()
        assert [type(error) for error in bench.shell.lost] == [FrameLostError]


async def test_a_lost_frame_counts_for_more_than_what_else_ends_a_run() -> None:
    async with sender() as bench:
        await bench.feed(frame([row(0)]), 0)
        sent = bench.shell.producer.sent
        await until(lambda: len(sent) == 2)
        sent[0].future.set_exception(NotLeaderForPartitionError())  # is heard of in the loop's next turn
        bench.run.effects.fail(SendFailedError("a dead letter could not be written"))
        assert isinstance(await bench.failure(), FrameLostError)


async def test_a_send_that_is_refused_for_good_needs_a_new_producer() -> None:
    for error, kind in ((KafkaTimeoutError(), SendFailedError), (OutOfOrderSequenceNumber(), FrameLostError)):
        async with sender() as bench:
            bench.shell.producer.error = error
            await bench.feed(frame([row(0)]), 0)
            assert type(await bench.failure()) is kind


async def test_the_backlog_is_done_first() -> None:
    async with sender() as bench:
        bench.task.cancel()
        await asyncio.wait({bench.task})
        old, new = FakeEvent(CODEC.encode(bench.topic, frame([row(1)])), 0), await bench.feed(frame([row(2)]), 1)
        bench.held.backlog = [old]
        bench.shell.producer.automatic = True
        bench.task = asyncio.ensure_future(PartitionRun(bench.shell, bench.held, None, 0).run())
        await until(lambda: new.acks)
        offsets = [Columns.of(await bench.shell.decode(each.value)).offsets[0] for each in bench.shell.producer.sent]
        assert offsets == [1, 1, 2, 2]
        assert old.acks == 1


async def test_a_send_that_is_refused_at_once_gives_up() -> None:
    async with sender() as bench:
        bench.shell.producer.error = KafkaConnectionError()
        event = await bench.feed(frame([row(1)]), 0)
        assert isinstance(await bench.failure(), SendFailedError)
        assert bench.held.backlog == [event]


@pytest.mark.parametrize(("error", "expected"), [(None, [0, 1]), (KafkaConnectionError(), [])])
async def test_who_counts_hears_of_what_was_sent(error: Exception | None, expected: list[int]) -> None:
    async with sender() as bench:
        bench.shell.producer.error, bench.shell.producer.automatic = error, True
        told: list[int] = []
        bench.shell.counts.sent = lambda effect: told.append(effect.partition)
        event = await bench.feed(frame([row(1)]), 0)
        await until(lambda: event.acks or bench.task.done())
        assert told == expected


async def test_a_topic_that_was_not_declared_is_a_defect() -> None:
    async with sender(emits=()) as bench:
        await bench.feed(frame([row(1)]), 0)
        assert isinstance(await bench.failure(), InvariantError)


async def test_a_frame_that_the_check_refuses_stays_unfinished() -> None:
    async with sender() as bench:

        async def refuse(_frame: InferenceFrame) -> None:
            raise SendFailedError("not this one")

        bench.shell.check = refuse
        event = await bench.feed(frame([row(1)]), 0)
        assert isinstance(await bench.failure(), SendFailedError)
        assert bench.held.backlog == [event]
        assert event.acks == 0


async def test_nothing_is_acknowledged_for_an_older_generation() -> None:
    async with sender() as bench:
        event = await bench.feed(frame([row(1)]), 0)
        await until(lambda: len(bench.shell.producer.sent) == 2)
        bench.shell.current = False
        for each in bench.shell.producer.sent:
            each.future.set_result(None)
        await turns()
        assert event.acks == 0


async def test_poison_is_set_aside_before_it_is_acknowledged() -> None:
    async with sender() as bench:
        event = await bench.feed(b"garbage", 9)
        await until(lambda: event.acks)
        assert bench.shell.letters == [(b"garbage", "garbage", 9)]
        assert bench.shell.counts.num_poison == 1


async def test_a_deferred_frame_holds_its_event_until_memory_changes() -> None:
    async with sender(defer_until=1 << 62) as bench:
        bench.shell.producer.automatic = True
        event = await bench.feed(frame([row(1)]), 0)
        await until(lambda: bench.run.deferred)
        await turns()
        assert event.acks == 0
        bench.shell.memory.view = memory(MODEL, sequence=41)
        await until(lambda: event.acks)
        assert len(bench.shell.producer.sent) == 2
        assert not bench.run.deferred


async def test_deferred_frames_come_back_by_their_time_and_each_but_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the next look, and in the order of their times, however they came."""
    clock, decided = [1_000_000], []
    monkeypatch.setattr("streams.partition_run.now_us", lambda: clock[0])
    due = {1: 1_030_000, 2: 1_010_000, 3: 1_020_000}

    def decide(state: int, event: Event, params: None) -> tuple[int, Effects]:
        offset = int(Columns.of(event.record).offsets[0])
        decided.append((offset, event.now_us))
        return state, (Defer(event.record, due[offset]),) if event.now_us < due[offset] else ()

    spec = AgentSpec("sender", ("inference.admitted",), (), lambda _: 0, decide)
    async with ended(Bench(spec, "inference.admitted", None, 0)) as bench:
        events = [await bench.feed(frame([row(n)]), n) for n in due]
        await until(lambda: len(bench.run.deferred) == 3)
        assert decided == [(1, 1_000_000), (2, 1_000_000), (3, 1_000_000)]
        assert bench.run._patience_s() == pytest.approx(0.01)
        for clock[0], back in ((1_010_000, 2), (1_020_000, 3), (1_030_000, 1)):
            bench.held.events.wake()
            await until(partial(_as_long_as, decided, len(decided) + 1))
            assert decided[-1] == (back, clock[0])
        await until(lambda: all(event.acks for event in events))
        assert len(decided) == 6


async def test_the_window_bounds_what_is_under_way() -> None:
    async with sender() as bench:
        for n in range(WINDOW + 5):
            await bench.feed(frame([row(n)]), n)
        await until(lambda: bench.held.events.qsize() == 5)
        await turns(200)
        assert bench.held.events.qsize() == 5
        for each in list(bench.shell.producer.sent):
            each.future.set_result(None)
        await until(bench.held.events.empty)


async def test_frames_that_wait_for_a_plan_hold_no_others_up() -> None:
    """A model without a plan would stop all others for as long as its rows are held."""
    async with routing() as bench:
        bench.shell.producer.automatic = True
        waiting = [
            await bench.feed(frame([row(n, model="newcomer", deadline_us=FAR_US)]), n) for n in range(WINDOW + 20)
        ]
        served = await bench.feed(frame([row(WINDOW + 20, deadline_us=FAR_US)]), WINDOW + 20)
        await until(lambda: bench.shell.producer.sent)
        assert len(bench.run.deferred) == WINDOW + 20
        assert bench.run.window.num_sending <= 1
        await turns()
        assert (served.acks, [event.acks for event in waiting]) == (0, [0] * len(waiting))  # in order, so not yet
        bench.shell.memory.view = memory(plan("newcomer", ("v1.0.0", 100)), sequence=41)
        await until(lambda: served.acks)
        assert all(event.acks == 1 for event in waiting)
        assert len(bench.shell.producer.sent) == WINDOW + 21


async def test_what_is_not_acknowledged_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.run_window.UNFINISHED_WINDOWS", 1)
    async with routing() as bench:
        bench.shell.producer.automatic = True
        for n in range(WINDOW + 5):
            await bench.feed(frame([row(n, model="newcomer", deadline_us=FAR_US)]), n)
        await until(lambda: len(bench.run.deferred) == WINDOW)
        await turns(200)
        assert bench.held.events.qsize() == 5
        bench.shell.memory.view = memory(plan("newcomer", ("v1.0.0", 100)), sequence=41)
        await until(bench.held.events.empty)
        await until(lambda: len(bench.run.window) == 0)


def _as_long_as(things: list[Any], length: int) -> bool:
    return len(things) >= length


async def test_bytes_under_way_are_bounded_and_room_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.run_window.MAX_UNFINISHED_BYTES", 1)
    async with sender() as bench:
        events = [await bench.feed(frame([row(n)]), n) for n in range(3)]
        sent = bench.shell.producer.sent
        for number in (2, 4, 6):
            await until(partial(_as_long_as, sent, number))
            await turns()
            assert len(sent) == number
            for each in sent[number - 2 :]:
                each.future.set_result(None)
        await until(lambda: events[-1].acks)


async def test_what_comes_during_a_write_leaves_with_the_next_one() -> None:
    """One write at a time: a batch per frame would bound the frames per second by the round trip."""
    async with validator() as bench:
        await bench.feed(executed(2), 0)
        writes = results(bench).writes
        await until(lambda: len(writes) == 1)
        await bench.feed(executed(3, first=102), 1)
        await bench.feed(executed(1, first=105), 2)
        await until(lambda: len(bench.run.effects.answers) == 2)
        assert len(writes) == 1
        writes[0].set_result((0, 2))
        await until(lambda: len(writes) == 2)
        assert len(results(bench).records) == 6
        assert (bench.run.state.results_offset, bench.run.state.terminals.low_watermark) == (2, 102)
        writes[1].set_result((2, 6))
        await turns()
        assert (bench.run.state.results_offset, bench.run.state.terminals.low_watermark) == (6, 106)


async def test_a_frame_is_acknowledged_when_its_results_stand() -> None:
    async with validator() as bench:
        event = await bench.feed(executed(2), 0)
        await until(lambda: results(bench).writes)
        await turns()
        assert event.acks == 0
        results(bench).writes[0].set_result((0, 2))
        await until(lambda: event.acks)
        again = await bench.feed(executed(2), 1)  # a redelivered frame: no second result
        await until(lambda: again.acks)
        assert len(results(bench).records) == 2


async def test_a_failed_write_sets_no_bit_and_gives_up() -> None:
    async with validator() as bench:
        events = [await bench.feed(executed(1), 0), await bench.feed(executed(1, first=101), 1)]
        await until(lambda: len(results(bench).writes) == 1)
        results(bench).writes[0].set_exception(FencedError("results", 1))
        assert isinstance(await bench.failure(), FencedError)
        assert len(results(bench).writes) == 1
        assert bench.run.state.terminals.low_watermark == 100
        assert bench.run.state.results_offset == 0
        assert bench.held.backlog == events


async def test_the_first_tick_writes_a_checkpoint_and_a_refused_one_gives_up() -> None:
    async with validator() as bench:
        assert bench.ledger is not None
        await until(lambda: bench.ledger and bench.ledger.checkpoints)
        assert [(each.low_watermark, each.results_offset) for each in bench.ledger.checkpoints] == [(100, 0)]
    async with validator() as bench:
        assert bench.ledger is not None
        bench.ledger.refuse = FencedError("checkpoints", 1)
        assert isinstance(await bench.failure(), FencedError)


async def test_a_clock_that_is_set_back_holds_no_tick_up() -> None:
    async with validator() as bench:
        run, tick_us = bench.run, bench.run.shell.spec.tick_ms * 1000
        await until(lambda: bench.ledger and bench.ledger.checkpoints)
        run._next_tick_us += 3_600_000_000  # what stood on the clock an hour later
        await until(lambda: run._next_tick_us <= time.time_ns() // 1000 + tick_us)


async def test_a_write_that_fails_inside_a_scan_ends_the_run() -> None:
    """Its rows are pending already: a failure that nobody noticed would leave them unanswered for good."""
    async with validator() as bench:
        assert bench.ledger is not None
        bench.ledger.scanned = Scanned(100, 101, np.array([100], np.int64), frame([row(100, items=0)]))
        results(bench).refuse = FencedError("results", 1)
        await bench.run.effects.perform(ScanRequests(100, 200, 0), None)
        assert isinstance(await bench.failure(), FencedError)


@pytest.mark.parametrize(
    ("raised", "expected"), [(NotLeaderForPartitionError(), SendFailedError), (KeyError("x"), KeyError)]
)
async def test_a_scan_that_fails_ends_the_run(raised: Exception, expected: type[Exception]) -> None:
    async with validator() as bench:
        assert bench.ledger is not None
        bench.ledger.scanned = raised
        await bench.run.effects.perform(ScanRequests(100, 200, 0), None)
        assert isinstance(await bench.failure(), expected)


async def test_what_a_scan_found_is_answered_and_counted_as_reaped() -> None:
    async with validator() as bench:
        assert bench.ledger is not None
        bench.ledger.scanned = Scanned(100, 101, np.array([100], np.int64), frame([row(100, items=0)]))
        await bench.run.effects.perform(ScanRequests(100, 200, 0), None)
        await until(lambda: results(bench).writes)
        results(bench).writes[0].set_result((0, 1))
        await until(lambda: bench.run.state.num_reaped == 1)
        assert bench.run.state.terminals.low_watermark == 101


async def test_a_claim_of_a_day_is_renewed() -> None:
    async with validator() as bench:
        results(bench).age_s = 86_401.0
        assert isinstance(await bench.failure(), SendFailedError)


async def test_a_defect_in_a_confirmation_is_not_lost() -> None:
    async with validator() as bench:

        def broken(_frame: InferenceFrame, _us: int) -> None:
            raise ZeroDivisionError

        bench.shell.counts.answered = broken
        event = await bench.feed(executed(1), 0)
        await until(lambda: results(bench).writes)
        results(bench).writes[0].set_result((0, 1))
        assert isinstance(await bench.failure(), ZeroDivisionError)
        assert bench.held.backlog == [event]


async def test_a_look_up_and_the_decision_see_one_memory() -> None:
    """Memory goes on while the look-up is under way; what was asked for by the old one is decided by it."""
    seen: list[tuple[int, Any]] = []

    def decide(state: int, event: Event, params: None) -> tuple[int, Effects]:
        if not isinstance(event.record, Tick):
            seen.append((event.answers.sequence, event.looked_up))
        return state, ()

    spec = replace(ROUTER, decide=decide, lookups=lambda record, view, params: (record.frame_id, view.sequence))
    async with ended(Bench(spec, "inference.admitted", None, 0)) as bench:

        async def look_up(asked: Any) -> Any:
            bench.shell.memory.view = memory(MODEL, sequence=41)
            return asked

        heard: list[tuple[int, Any]] = []
        bench.shell.look_up = look_up
        bench.shell.counts.looked_up = lambda made, found: heard.append((made.frame_id, found))
        event = await bench.feed(frame([row(100)]), 0)
        await until(lambda: event.acks == 1)
    assert seen == [(40, (7, 40))]
    assert heard == [(7, (7, 40))]


async def test_nothing_is_looked_up_where_nothing_is_asked() -> None:
    async def look_up(asked: Any) -> Any:
        raise AssertionError(f"{asked} was not asked")

    spec = replace(ROUTER, lookups=lambda record, view, params: None)
    async with ended(Bench(spec, "inference.admitted", None, RouterState())) as bench:
        bench.shell.look_up = look_up
        await bench.feed(frame([row(100, deadline_us=1)]), 0)
        await until(lambda: bench.shell.producer.sent != [])
        assert bench.run.effects.failure is None


async def test_answers_to_be_cached_are_handed_over_and_hold_nothing_back() -> None:
    handed: list[Any] = []
    routed = frame([row(100)])
    made = replace(cached.executed(routed), input_digests=cached.digests_of(routed), memory_sequence=9)
    async with validator() as bench:
        bench.shell.memory.view = memory(MODEL, cached.POLICY)
        bench.shell.fill = handed.append
        await bench.feed(made, 0)
        await until(lambda: handed != [])
    assert [field[16:] for field, _ in handed[0]] == [cached.digests_of(routed)]


def listening() -> Any:
    """An agent whose state is what it heard and when it wants the next tick; it sends what it is told to."""

    def decide(state: tuple[list[Any], int], event: Event, params: None) -> tuple[tuple[list[Any], int], Effects]:
        heard, due_us = state
        if isinstance(event.record, Tick):
            return ([*heard, "tick"], FAR_US), ()
        if isinstance(event.record, InferenceFrame):
            return ([*heard, "frame"], due_us), ()
        return ([*heard, event.record], event.now_us + 5_000), (SendFrame("inference.routed", 0, frame([row(1)])),)

    spec = AgentSpec(
        "listener", ("inference.admitted",), ("inference.routed",), lambda _: None, decide, due=lambda state: state[1]
    )
    return ended(Bench(spec, "inference.admitted", None, ([], FAR_US)))


async def test_news_are_decided_on_and_hold_no_event_up() -> None:
    async with listening() as bench:
        bench.held.tell("first")
        bench.held.tell("second")
        await until(lambda: len(bench.shell.producer.sent) == 2)  # whose confirmations nobody gives
        event = await bench.feed(frame([row(1)]), 0)
        await until(lambda: event.acks)
        assert [each for each in bench.run.state[0] if each != "tick"] == ["first", "second", "frame"]
        bench.shell.producer.sent[0].future.set_exception(NotLeaderForPartitionError())
        assert isinstance(await bench.failure(), FrameLostError)


async def test_a_tick_comes_when_the_state_wants_it_and_not_before() -> None:
    async with listening() as bench:
        await turns()
        assert bench.run.state[0] == []
        before_us = time.time_ns() // 1000
        bench.held.tell("news")
        await until(lambda: "tick" in bench.run.state[0])
        assert time.time_ns() // 1000 - before_us >= 5_000
        assert bench.run.state == (["news", "tick"], FAR_US)

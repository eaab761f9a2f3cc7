"""Effects of a run without its loop: what each of them sends or writes, and what a failure of it comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaTimeoutError, NotLeaderForPartitionError, OutOfOrderSequenceNumber

from agents.validator import VALIDATOR, ValidatorState
from schemas.ledger import LedgerCheckpoint
from streams.agent import TICK, Event
from streams.errors import FencedError, InvariantError
from streams.frame_effects import Answer, Defer, FillCache, Scanned, ScanRequests, SendFrame, WriteCheckpoint
from streams.ordering import Entry
from streams.run_effects import RunEffects, SendFailedError, SourceState
from streams.takeover import FrameLostError, HeldPartition
from streams.terminals import Terminals
from tests.support.fake_kafka import FakeEvent, turns, until
from tests.support.frames import MODEL, TOPIC_ID, executed, frame, memory, row
from tests.unit.streams.test_partition_run import FakeLedger, Shell

ROUTED = SendFrame("inference.routed", 1, frame([row(1)]))
CHECKPOINT = LedgerCheckpoint(TOPIC_ID, 1, 100, b"", 0, 0, 7)


class Bench:
    """The effects of a Validator's run, which may also send to the lanes here."""

    def __init__(self, ledger: FakeLedger | None = None) -> None:
        self.shell = Shell(replace(VALIDATOR, emits=("inference.routed",)), "inference.executed")
        self.held = HeldPartition("t", 1, 1)
        self.ledger = ledger
        self.source = SourceState(ValidatorState(TOPIC_ID, 1, Terminals.starting_at(100)))
        self.scanned: list[Scanned] = []
        shell: Any = self.shell
        given: Any = ledger
        self.effects = RunEffects(shell, self.held, given, self.source, self._take)

    async def _take(self, scanned: Scanned) -> None:
        self.scanned.append(scanned)

    def event(self, offset: int = 0) -> tuple[FakeEvent, Entry[Any]]:
        event = FakeEvent(b"frame", offset)
        return event, self.effects.window.start(event)


async def test_a_frame_that_is_sent_holds_its_event_until_it_stands() -> None:
    bench = Bench()
    event, entry = bench.event()
    await bench.effects.perform(ROUTED, entry)
    bench.effects.window.finish(entry)
    (sent,) = bench.shell.producer.sent
    assert (sent.topic, sent.partition, event.acks) == ("isos.inference.routed.v1", 1, 0)
    sent.future.set_result(None)
    await turns()
    assert (event.acks, bench.effects.window.num_sending) == (1, 0)
    bench.effects.raise_failure()


async def test_nothing_is_acknowledged_for_an_older_generation() -> None:
    bench = Bench()
    event, entry = bench.event()
    bench.shell.current = False
    bench.effects.window.finish(entry)
    assert (event.acks, len(bench.effects.window)) == (0, 0)


@pytest.mark.parametrize(
    ("error", "kind"), [(KafkaTimeoutError(), SendFailedError), (OutOfOrderSequenceNumber(), FrameLostError)]
)
async def test_a_send_that_is_refused_holds_nothing(error: Exception, kind: type[Exception]) -> None:
    bench = Bench()
    bench.shell.producer.error = error
    _, entry = bench.event()
    with pytest.raises(kind):
        await bench.effects.perform(ROUTED, entry)
    assert bench.effects.window.num_sending == 0


async def test_a_frame_that_was_lost_is_the_runs_failure_and_told_when_the_run_is_over() -> None:
    bench = Bench()
    for _ in range(2):
        await bench.effects.perform(ROUTED, bench.event()[1])
    first, second = bench.shell.producer.sent
    first.future.set_exception(NotLeaderForPartitionError())
    await turns()
    with pytest.raises(FrameLostError):
        bench.effects.raise_failure()
    assert bench.shell.lost == []
    bench.effects.give_up()
    second.future.cancel()
    await turns()
    assert [type(error) for error in bench.shell.lost] == [FrameLostError]


def test_the_first_failure_counts_and_a_lost_frame_for_more() -> None:
    bench, lost = Bench(), FrameLostError("lost")
    first, second = SendFailedError("first"), SendFailedError("second")
    for error, expected in ((first, first), (second, first), (lost, lost), (second, lost)):
        bench.effects.fail(error)
        assert bench.effects.failure is expected


async def test_answers_leave_one_write_at_a_time_and_are_folded_when_they_stand() -> None:
    ledger = FakeLedger()
    bench = Bench(ledger)
    events = []
    for at in range(3):
        event, entry = bench.event(at)
        came = Event(executed(1, first=100 + at), TICK, 1, answers=memory(MODEL))
        bench.source.value, effects = VALIDATOR.decide(bench.source.value, came, VALIDATOR.params)
        (answer,) = effects
        assert isinstance(answer, Answer)
        await bench.effects.perform(answer, entry)
        bench.effects.window.finish(entry)
        events.append(event)
        await turns()
    writes = ledger.results.writes
    assert (len(writes), len(bench.effects.answers), bench.effects.window.num_sending) == (1, 2, 3)
    writes[0].set_result((0, 1))
    await until(lambda: len(writes) == 2)
    assert [event.acks for event in events] == [1, 0, 0]
    assert (bench.source.value.results_offset, bench.source.value.terminals.low_watermark) == (1, 101)
    writes[1].set_result((1, 3))
    await until(lambda: events[-1].acks)
    assert (bench.source.value.results_offset, bench.source.value.terminals.low_watermark) == (3, 103)


async def test_a_checkpoint_that_is_refused_is_the_runs_failure() -> None:
    ledger = FakeLedger()
    ledger.refuse = FencedError("checkpoints", 1)
    bench = Bench(ledger)
    await bench.effects.perform(WriteCheckpoint(CHECKPOINT), None)
    await until(lambda: bench.effects.failure is ledger.refuse)


async def test_a_scan_that_the_broker_fails_is_the_runs_failure_and_may_be_tried_again() -> None:
    ledger = FakeLedger()
    ledger.scanned = NotLeaderForPartitionError()
    bench = Bench(ledger)
    await bench.effects.perform(ScanRequests(100, 200, 0), None)
    await until(lambda: isinstance(bench.effects.failure, SendFailedError))
    with pytest.raises(SendFailedError):
        bench.effects.raise_failure()


async def test_checkpoints_are_written_and_what_a_scan_found_is_decided_on() -> None:
    ledger = FakeLedger()
    ledger.scanned = Scanned(100, 101, np.array([100], np.int64), frame([row(100, items=0)]))
    bench = Bench(ledger)
    await bench.effects.perform(WriteCheckpoint(CHECKPOINT), None)
    await bench.effects.perform(ScanRequests(100, 200, 0), None)
    await until(lambda: bench.scanned)
    assert (ledger.checkpoints, bench.scanned) == ([CHECKPOINT], [ledger.scanned])


async def test_what_goes_on_beside_the_events_ends_with_the_run() -> None:
    ledger = FakeLedger()
    bench = Bench(ledger)
    await bench.effects.perform(Answer(executed(1), 7), bench.event()[1])
    await until(lambda: ledger.results.writes)
    bench.effects.stop()
    await until(lambda: ledger.results.writes[0].cancelled())
    await turns()
    assert bench.effects.failure is None


async def test_answers_to_be_cached_are_handed_over_where_there_is_a_cache() -> None:
    bench = Bench()
    handed: list[Any] = []
    filling = FillCache(((b"key", b"payload"),))
    await bench.effects.perform(filling, None)
    bench.shell.fill = handed.append
    await bench.effects.perform(filling, None)
    assert handed == [filling.payloads]


@pytest.mark.parametrize(
    "effect",
    [
        SendFrame("inference.executed", 0, frame([row(1)])),
        Answer(executed(1), 7),
        WriteCheckpoint(CHECKPOINT),
        Defer(frame([row(1)]), 7),
    ],
)
async def test_what_the_agent_may_not_do_is_a_defect(effect: Any) -> None:
    """A topic that it does not declare, whatever needs a ledger, and what nothing interprets."""
    bench = Bench()
    with pytest.raises(InvariantError):
        await bench.effects.perform(effect, bench.event()[1])


async def test_a_scan_without_a_ledger_is_a_defect_of_the_run() -> None:
    bench = Bench()
    await bench.effects.perform(ScanRequests(1, 2, 0), None)
    await until(lambda: isinstance(bench.effects.failure, InvariantError))


def test_a_claim_of_a_day_is_renewed() -> None:
    ledger = FakeLedger()
    bench = Bench(ledger)
    bench.effects.raise_failure()
    ledger.results.age_s = 86_401.0
    with pytest.raises(SendFailedError):
        bench.effects.raise_failure()

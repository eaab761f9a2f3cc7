"""A backtest: the same policy changes nothing, another one shows where it would have acted, also at unwritten ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.monitor import MONITOR, Params
from schemas.telemetry import Heartbeat
from streams.agent import AgentSpec, Effects, Event, Publish, Tick
from streams.codec import Codec, SchemaIds
from streams.control.backtest import IDLE_TICK, Backtest, Change, PolicyFailedError
from streams.control.journal import TICK_INPUT, Input
from tests.support.journals import PLAIN, Record, as_records, written

SECOND = 1_000_000
REAL = Codec(SchemaIds.local())


@dataclass(frozen=True, slots=True)
class Limit:
    """Numbers above ``most`` are told, and what waits is told when it is ``patience_us`` old."""

    most: int = 10
    patience_us: int = 500_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """The last number that was not told, and since when."""

    number: int = -1
    since_us: int = 0


def decide(state: Waiting, event: Event, params: Limit) -> tuple[Waiting, Effects]:
    match event.record:
        case int(number) if number > params.most:
            return state, (Publish("out", b"k", number),)
        case int(number):
            return Waiting(number, event.now_us), ()
        case Tick() if state.number >= 0 and event.now_us - state.since_us >= params.patience_us:
            return Waiting(), (Publish("out", b"late", state.number),)
    return state, ()


SPEC = AgentSpec(
    "limit",
    consumes=("in",),
    emits=("out",),
    initial=lambda params: Waiting(),
    decide=decide,
    journaled=True,
    tick_ms=100,
    params=Limit(),
)


def run(
    params: Any, records: list[Record], spec: AgentSpec = SPEC, codec: Any = PLAIN
) -> tuple[Backtest, list[Change]]:
    backtest = Backtest(spec, codec, params)
    changes = [change for record in records for change in backtest.take(*record)]
    backtest.end()
    return backtest, changes


def lived(numbers: dict[int, int], until_ms: int, phase_ms: int = 0) -> list[tuple[Input, int]]:
    """Ticks each 100 ms from ``phase_ms`` on, and numbers at their milliseconds."""
    given: list[tuple[int, int, Input]] = [(ms, 1, TICK_INPUT) for ms in range(phase_ms, until_ms, 100)]
    values = sorted(numbers.items())
    given += [(ms, 0, Input("in", 0, at, b"", b"%d" % value)) for at, (ms, value) in enumerate(values)]
    return [(each, ms * 1_000) for ms, _, each in sorted(given, key=lambda one: one[:2])]


@given(st.dictionaries(st.integers(0, 4_000), st.integers(0, 20)), st.integers(0, 99), st.sets(st.integers(0, 60)))
def test_the_policy_in_force_changes_nothing(numbers: dict[int, int], phase_ms: int, breaks: set[int]) -> None:
    records = as_records(written(SPEC, lived(numbers, 4_200, phase_ms), take_over_at=sorted(breaks)))
    backtest, changes = run(Limit(), records)
    assert (changes, backtest.difference) == ([], None)
    assert backtest.recorded.num_entries == len(records)


def test_a_decision_that_falls_otherwise_shows_both_sides() -> None:
    backtest, changes = run(Limit(most=5), as_records(written(SPEC, lived({50: 3, 150: 8, 250: 12}, 300))))
    told = {"topic": "out", "partition": -1, "key": "k", "record": 8}
    assert changes == [Change(2, 150_000, "record", "in/0/1", (), (told,))]
    assert (backtest.recorded.num_entries, backtest.difference) == (3, None)


def test_ticks_that_are_in_no_journal_are_put_in() -> None:
    entries = written(SPEC, lived({50: 3, 2_000: 4}, 2_100))
    assert [entry.kind for entry in entries] == ["record", "tick", "record"]  # told at 600 ms
    backtest, changes = run(Limit(patience_us=200_000), as_records(entries))
    late = {"topic": "out", "partition": -1, "key": "late", "record": 3}
    assert changes == [
        Change(1, 250_000, IDLE_TICK, "", (), (late,)),
        Change(2, 600_000, "tick", "", (late,), ()),
    ]
    # One each 100 ms after the first number, but for that at 550 ms, which would be in the journal.
    assert backtest.num_idle_ticks == 4 + 13


def test_nobody_ticks_across_a_take_over() -> None:
    inputs = lived({50: 3, 2_000: 4}, 200)
    entries = written(SPEC, inputs, take_over_at=[3])
    assert [entry.kind for entry in entries] == ["record", "snapshot", "record"]
    backtest, changes = run(Limit(patience_us=200_000), as_records(entries))
    assert (changes, backtest.num_idle_ticks) == ([], 0)


def test_a_trimmed_journal_is_begun_at_its_snapshot_in_the_recorded_state() -> None:
    entries = written(SPEC, lived({50: 3, 150: 11, 250: 8, 350: 9}, 400), take_over_at=[6])
    at = next(at for at, entry in enumerate(entries) if entry.kind == "snapshot")
    backtest, changes = run(Limit(most=8), as_records(entries)[1:])
    assert (backtest.recorded.num_passed, backtest.recorded.first_sequence) == (at - 1, at + 1)
    assert [change.would_be[0]["record"] for change in changes] == [9]


def test_code_that_is_no_baseline_is_told() -> None:
    def other(state: Waiting, event: Event, params: Limit) -> tuple[Waiting, Effects]:
        return decide(state, event, replace(params, most=params.most - 1))

    backtest, _ = run(Limit(), as_records(written(SPEC, lived({50: 10}, 100))), replace(SPEC, decide=other))
    assert backtest.difference is not None
    assert (backtest.difference.sequence, backtest.difference.part) == (1, "effects")


def test_what_cannot_be_read_is_told_and_passed() -> None:
    records = as_records(written(SPEC, lived({50: 3, 150: 8, 250: 12}, 300)))
    backtest, changes = run(Limit(most=1), [records[0], (2, b"garbage"), records[2]])
    assert backtest.difference is not None
    assert (backtest.difference.offset, backtest.recorded.num_passed) == (2, 1)
    assert [change.sequence for change in changes] == [1]


def test_a_policy_that_makes_the_agent_fail_is_named() -> None:
    def fragile(state: Waiting, event: Event, params: Limit) -> tuple[Waiting, Effects]:
        if isinstance(event.record, Tick):
            return state, () if params.most > 1 else (1 // params.most,)
        return (state, ()) if 8 // params.most else (state, (Publish("out", b"", 1),))

    spec = replace(SPEC, decide=fragile)
    records = as_records(written(spec, lived({50: 3, 450: 3}, 500)))
    with pytest.raises(PolicyFailedError, match="under this policy the limit fails at sequence 1: ZeroDivisionError"):
        run(Limit(most=0), records, spec)
    with pytest.raises(PolicyFailedError, match="fails at sequence 1: InvariantError: limit may not emit 1"):
        run(Limit(most=1), records, spec)


def heard(sent_s: int, offset: int, role: str) -> tuple[Input, int]:
    value = REAL.encode("control.heartbeats", Heartbeat(role, 0, 7, 1, sent_s * SECOND, 3))
    return Input("control.heartbeats", 0, offset, role.encode(), value), sent_s * SECOND + 400_000


def test_the_monitor_with_less_patience_alerts_earlier() -> None:
    inputs: list[tuple[Input, int]] = []
    for second in range(30):
        inputs += [heard(second, 2 * second, "router")]
        inputs += [] if 10 <= second < 20 else [heard(second, 2 * second + 1, "executor")]
        inputs += [(TICK_INPUT, second * SECOND + 700_000)]
    records = as_records(written(MONITOR, inputs, REAL), REAL)
    assert run(MONITOR.params, records, MONITOR, REAL)[1] == []
    backtest, changes = run(replace(Params(), silent_us=2 * SECOND), records, MONITOR, REAL)
    assert backtest.difference is None
    alerts = [
        (
            change.time_us // SECOND,
            change.kind,
            len(change.was),
            [each["record"]["resolved"] for each in change.would_be],
        )
        for change in changes
    ]
    # Under the policy in force the alert comes at 14.7 s, at a tick that is in the journal.
    assert alerts[0][1:] == (IDLE_TICK, 0, [False])
    assert 11 <= alerts[0][0] <= 12
    assert alerts[1] == (14, "tick", 1, [])
    assert len(alerts) == 2  # both resolve it when the executor is heard again

"""Journal first: what is stepped, dropped, journaled, and that a fold of the journal is the agent that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.journal import JournalEffect, JournalEntry
from streams.agent import AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import to_json
from streams.control.journal import (
    SNAPSHOT_EVERY,
    TICK_INPUT,
    Divergence,
    Input,
    JournaledAgent,
    restore,
    snapshot_body,
)
from streams.errors import InvariantError, PoisonRecordError


@dataclass(frozen=True, slots=True)
class Sum:
    """Total so far, and how often each number came."""

    total: int = 0
    last_us: int = 0
    times: Mapping[str, int] = field(default_factory=dict)


class Numbers:
    """Codec of plain decimal numbers."""

    def encode(self, topic: str, record: Any) -> bytes:
        return str(record).encode()

    def decode(self, topic: str, value: bytes | None) -> Any:
        if value is None or not value.isdigit():
            raise PoisonRecordError("garbage", "no number")
        return int(value)


def decide(state: Sum, event: Event, params: Any) -> tuple[Sum, Effects]:
    match event.record:
        case int(number):
            times = {**state.times, str(number): state.times.get(str(number), 0) + 1}
            return Sum(state.total + number, event.now_us, times), (Publish("out", b"k", state.total + number),)
        case Tick() if event.now_us - state.last_us > 100:
            return replace(state, last_us=event.now_us), ()
    return state, ()


SPEC = AgentSpec("sum", consumes=("in",), emits=("out",), initial=lambda params: Sum(), decide=decide, journaled=True)


def number(value: int, offset: int, source: str = "") -> Input:
    return Input("in", 0, offset, b"", str(value).encode(), source)


def agent() -> JournaledAgent:
    return JournaledAgent(SPEC, Numbers())


def test_a_step_is_an_entry() -> None:
    assert agent().step(number(5, 7, "other/3/0"), 50) == JournalEntry(
        "sum", 1, 50, "record", "in", 0, 7, b"", b"5", "other/3/0", (JournalEffect("out", -1, b"k", b"5"),), b""
    )


def test_redelivered_inputs_and_repeated_effects_are_dropped() -> None:
    one = agent()
    assert one.step(number(5, 7, "other/3/1"), 50) is not None
    assert one.step(number(5, 7), 60) is None
    assert one.step(number(6, 3), 60) is None
    assert one.step(number(6, 8, "other/3/1"), 60) is None
    assert one.step(number(6, 9, "other/3/0"), 60) is None
    assert one.step(number(6, 10, "other/4/0"), 60) is not None
    assert one.step(number(6, 11, "another/1/0"), 60) is not None
    assert one.state.total == 17


def test_idle_ticks_leave_no_entry() -> None:
    one = agent()
    assert one.step(TICK_INPUT, 50) is None
    entry = one.step(TICK_INPUT, 150)
    assert entry == JournalEntry("sum", 1, 150, "tick", "", -1, -1, b"", None, "", (), b"")
    assert one.step(TICK_INPUT, 160) is None


def test_time_rises_with_every_entry_also_while_the_clock_stands_behind() -> None:
    one = agent()
    times = []
    for offset, now_us in enumerate((500, 400, 500, 501, 900)):
        entry = one.step(number(1, offset), now_us)
        assert entry is not None
        times.append(entry.time_us)
    assert times == [500, 501, 502, 503, 900]


def test_an_undecodable_record_moves_the_cursor_only() -> None:
    one = agent()
    entry = one.step(Input("in", 0, 4, b"", b"no number"), 50)
    assert entry is not None
    assert entry.effects == ()
    assert (one.state, one.cursors) == (Sum(), {"in/0": 4})


def test_an_effect_outside_emits_is_refused() -> None:
    spec = replace(SPEC, emits=("elsewhere",))
    with pytest.raises(InvariantError, match="may not emit"):
        JournaledAgent(spec, Numbers()).step(number(1, 0), 1)


def run(inputs: list[Input]) -> tuple[JournaledAgent, list[JournalEntry]]:
    one, entries = agent(), []
    for at, each in enumerate(inputs):
        entry = one.step(each, at * 40)
        if entry is not None:
            entries.append(entry)
        if one.snapshot_due():
            entries.append(one.snapshot())
    return one, entries


def same(left: JournaledAgent, right: JournaledAgent) -> bool:
    return (left.state, left.sequence, left.time_us, left.cursors, left.seen, left.last_snapshot) == (
        right.state,
        right.sequence,
        right.time_us,
        right.cursors,
        right.seen,
        right.last_snapshot,
    )


inputs = st.lists(
    st.builds(
        Input,
        st.sampled_from(["in", "in", ""]),
        st.just(0),
        st.integers(0, 40),
        st.just(b""),
        st.sampled_from([b"1", b"2", b"x", None]),
        st.sampled_from(["", "a/1/0", "a/2/0", "b/1/1"]),
    ),
    max_size=60,
)


@given(inputs)
def test_the_fold_of_a_journal_is_its_writer(given_inputs: list[Input]) -> None:
    one, entries = run(given_inputs)
    restored, divergences = restore(SPEC, Numbers(), entries)
    assert divergences == ()
    assert same(restored, one)


def test_what_an_agent_ignores_is_not_journaled() -> None:
    picky = JournaledAgent(replace(SPEC, ignores=lambda state, record: record % 2 == 0), Numbers())
    entries = [entry for n in range(6) if (entry := picky.step(number(n, n), 50)) is not None]
    assert [entry.input_offset for entry in entries] == [1, 3, 5]
    again = JournaledAgent(picky.spec, Numbers())
    assert again.fold(entries) == ()
    assert same(again, picky)


def test_restore_from_the_last_snapshot() -> None:
    one, entries = run([number(n % 3, n, f"src/{n}/0") for n in range(SNAPSHOT_EVERY * 2 + 10)])
    snapshots = [at for at, entry in enumerate(entries) if entry.kind == "snapshot"]
    assert len(snapshots) == 2
    assert [e.sequence for e in entries if e.state_digest and e.kind == "record"] == [1000, 2000]
    restored, divergences = restore(SPEC, Numbers(), entries[snapshots[1] :])
    assert divergences == ()
    assert same(restored, one)
    whole = agent()
    assert whole.fold(entries) == ()
    assert same(whole, one)


def test_a_snapshot_of_another_shape_is_passed_over() -> None:
    one, entries = run([number(1, n) for n in range(SNAPSHOT_EVERY + 10)])
    at = next(at for at, entry in enumerate(entries) if entry.kind == "snapshot")
    spoiled = list(entries)
    spoiled[at] = replace(entries[at], input_value=(entries[at].input_value or b"").replace(b"total", b"sum"))
    restored, _ = restore(SPEC, Numbers(), spoiled)
    assert same(restored, one)
    with pytest.raises(PoisonRecordError):
        restore(SPEC, Numbers(), spoiled[at:])


def test_fields_that_an_agent_forgot_are_left_out_of_an_earlier_releases_snapshot() -> None:
    one, entries = run([number(1, n) for n in range(SNAPSHOT_EVERY + 10)])
    at = next(at for at, entry in enumerate(entries) if entry.kind == "snapshot")
    body = snapshot_body(entries[at])
    was = json.dumps({**json.loads(body.state), "load": 7, "target": None})
    earlier = replace(entries[at], input_value=to_json(replace(body, state=was)).encode())
    tail = [earlier, *entries[at + 1 :]]
    with pytest.raises(PoisonRecordError):
        restore(replace(SPEC, forgotten=("load",)), Numbers(), tail)
    restored, divergences = restore(replace(SPEC, forgotten=("load", "target")), Numbers(), tail)
    assert divergences == ()
    assert same(restored, one)


def test_another_spelling_of_the_same_effect_is_no_difference() -> None:
    entry = agent().step(number(5, 7), 50)
    assert entry is not None
    spelled = replace(entry, effects=(replace(entry.effects[0], value=b"005"),))  # as another schema version would
    assert agent().fold([spelled]) == ()
    other = replace(entry, effects=(replace(entry.effects[0], value=b"006"),))
    assert agent().fold([other]) == (Divergence("sum", 1, "the effects differ"),)


def test_an_effect_on_a_topic_that_nobody_knows_is_a_difference() -> None:
    class Known(Numbers):
        def decode(self, topic: str, value: bytes | None) -> Any:
            return {"in": super().decode, "out": super().decode}[topic](topic, value)

    entry = agent().step(number(5, 7), 50)
    assert entry is not None
    spoiled = replace(entry, effects=(replace(entry.effects[0], topic="oat"),))
    assert JournaledAgent(SPEC, Known()).fold([spoiled]) == (Divergence("sum", 1, "the effects differ"),)


def test_gaps_and_differences_are_named() -> None:
    _, entries = run([number(1, n) for n in range(5)])
    with pytest.raises(InvariantError, match="4 does not follow 2"):
        agent().fold([entries[0], entries[1], entries[3]])
    with pytest.raises(InvariantError, match="begins at 2 without a snapshot"):
        agent().fold(entries[1:])
    entries[2] = replace(entries[2], effects=(JournalEffect("out", -1, b"k", b"9"),))
    assert agent().fold(entries) == (Divergence("sum", 3, "the effects differ"),)

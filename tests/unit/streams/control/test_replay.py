"""A replay: nothing differs in a journal as it was written; whatever is changed is named where it is first seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import planner
from agents.planner import PLANNER
from schemas.journal import JournalEntry
from schemas.memory import MemoryEvent
from schemas.review import ContextSignal
from streams.agent import Effects, Event, Tick
from streams.canonical import digest, to_json
from streams.codec import Codec, SchemaIds
from streams.control.journal import SNAPSHOT_EVERY, Input, snapshot_body
from streams.control.replay import Difference, Replay
from tests.support.journals import PLAIN, as_records, replayed, written
from tests.unit.streams.control.test_journal import SPEC, Sum, decide, number

REAL = Codec(SchemaIds.local())


def numbers(count: int) -> list[tuple[Input, int]]:
    return [(number(n % 7, n, f"src/{n}/0"), 10 * n) for n in range(count)]


def journal(count: int = 40, **options: Any) -> list[JournalEntry]:
    return written(SPEC, numbers(count), **options)


def first(entries: list[JournalEntry], spec: Any = SPEC) -> Difference:
    found = replayed(spec, as_records(entries))[1]
    assert found
    return found[0]


def test_a_journal_as_it_was_written_differs_nowhere() -> None:
    replay, found = replayed(SPEC, as_records(journal(2 * SNAPSHOT_EVERY + 10)))
    assert found == []
    assert (replay.num_entries, replay.num_snapshots, replay.num_passed) == (2 * SNAPSHOT_EVERY + 12, 2, 0)
    assert (replay.first_sequence, replay.agent.sequence) == (1, 2 * SNAPSHOT_EVERY + 12)


def test_a_changed_line_of_the_policy_is_named_at_its_first_differing_record() -> None:
    def stricter(state: Sum, event: Event, params: Any) -> tuple[Sum, Effects]:
        state, effects = decide(state, event, params)
        return state, () if state.total > 30 else effects

    entries = journal(40)
    totals = [sum(n % 7 for n in range(at + 1)) for at in range(40)]
    at = next(at for at, total in enumerate(totals) if total > 30)
    told = f'{{"topic":"out","partition":-1,"key":"k","record":{totals[at]}}}'
    assert first(entries, replace(SPEC, decide=stricter)) == Difference(
        "sum", 2 * at, at + 1, 10 * at, "record", f"in/0/{at}", "effects", f"only the journal has effect 0: {told}"
    )


def test_a_change_that_has_no_effect_yet_is_found_by_the_digest() -> None:
    def forgetful(state: Sum, event: Event, params: Any) -> tuple[Sum, Effects]:
        state, effects = decide(state, event, params)
        return (replace(state, times={}), effects) if len(state.times) == 7 else (state, effects)

    found = first(journal(SNAPSHOT_EVERY + 5), replace(SPEC, decide=forgetful))
    assert (found.sequence, found.part) == (SNAPSHOT_EVERY, "state")
    assert found.what == "the state does not have the digest that the journal has"
    taken_over = first(journal(200, take_over_at=[100]), replace(SPEC, decide=forgetful))
    assert (taken_over.sequence, taken_over.kind, taken_over.part) == (101, "snapshot", "state")
    assert "the state differs at times." in taken_over.what


def test_a_policy_that_raises_is_a_difference_and_the_next_snapshot_goes_on() -> None:
    def broken(state: Sum, event: Event, params: Any) -> tuple[Sum, Effects]:
        if event.coordinate.offset == 20:
            raise ZeroDivisionError("no share of nothing")
        return decide(state, event, params)

    replay, found = replayed(replace(SPEC, decide=broken), as_records(journal(40, take_over_at=[30])))
    assert [(each.sequence, each.what) for each in found] == [
        (21, "today's code raises ZeroDivisionError: no share of nothing")
    ]
    assert (replay.begun, replay.num_passed, replay.agent.sequence) == (31, 9, 41)


def tampered(entries: list[JournalEntry], at: int, how: str) -> list[JournalEntry]:
    entry = entries[at]
    if how == "input":
        return [*entries[:at], replace(entry, input_value=b"9"), *entries[at + 1 :]]
    if how == "effect":
        return [*entries[:at], replace(entry, effects=()), *entries[at + 1 :]]
    if how == "missing":
        return [*entries[:at], *entries[at + 1 :]]
    if how == "twice":
        return [*entries[:at], entry, *entries[at:]]
    if how == "swapped":
        return [*entries[:at], entries[at + 1], entry, *entries[at + 2 :]]
    if how == "early":
        return [*entries[:at], replace(entry, time_us=entry.time_us - 11), *entries[at + 1 :]]
    assert how == "foreign"
    return [*entries[:at], replace(entry, agent="planner"), *entries[at + 1 :]]


HOW = ("input", "effect", "missing", "twice", "swapped", "early", "foreign")


@given(st.integers(1, 37), st.sampled_from(HOW))
def test_what_is_tampered_with_is_named_where_it_stands(at: int, how: str) -> None:
    found = first(tampered(journal(40), at, how))
    where = at + 1 if how == "twice" else at  # the first of the two is in its place
    assert (found.offset, found.part) == (2 * where, "effects" if how in ("input", "effect") else "journal")


def test_a_flipped_byte_in_a_stored_snapshot_is_found() -> None:
    signal = ContextSignal("r", "constraint", "model/*", '{"field":"max_batch_size","maximum":4}', "x", 1)
    change = MemoryEvent(1, bytes(32), "c", "cli", "Noted", "noted/a", 1, None, "why", (), 5)
    inputs = [
        (Input("memory.events", 0, 0, b"k", REAL.encode("memory.events", change)), 10),
        (Input("control.context", 0, 0, b"r", REAL.encode("control.context", signal)), 20),
    ]
    entries = written(PLANNER, inputs, REAL, take_over_at=[1])
    records = as_records(entries, REAL)
    assert replayed(PLANNER, records, REAL)[1] == []
    offset, value = records[1]
    assert value is not None
    state = entries[1].input_value
    assert state is not None
    begin = value.index(state)
    for at in range(begin, begin + len(state)):
        flipped = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        found = replayed(PLANNER, [records[0], (offset, flipped), records[2]], REAL)[1]
        assert [each.offset for each in found[:1]] == [offset]


def test_what_is_no_entry_is_named_by_its_offset() -> None:
    records = as_records(journal(5))
    records[2] = (records[2][0], b"garbage")
    replay, found = replayed(SPEC, records)
    assert (found[0].offset, found[0].sequence, found[0].part) == (4, -1, "journal")
    assert found[0].what.startswith("the record is no journal entry (garbage: not a JournalEntry")
    assert replay.num_passed == 2  # nobody knows the state behind it


def test_a_trimmed_journal_begins_at_its_first_snapshot() -> None:
    entries = journal(SNAPSHOT_EVERY + 50)
    replay, found = replayed(SPEC, as_records(entries)[700:])
    assert found == []
    assert (replay.num_passed, replay.first_sequence, replay.num_entries) == (300, 1001, 51)


def test_without_any_snapshot_nothing_is_called_equal() -> None:
    records = as_records(journal(20))[5:]
    (found,) = replayed(SPEC, records)[1]
    assert (found.part, found.what) == ("journal", "none of the 15 entries that were read is a snapshot to begin from")
    replay, none = replayed(SPEC, [])
    assert (none, replay.num_entries) == ([], 0)


def respelled(entry: JournalEntry, old: str, new: str, *, sign: bool = True) -> JournalEntry:
    """A snapshot whose state reads otherwise, with the digest of what it then is."""
    body = snapshot_body(entry)
    assert old in body.state
    state = body.state.replace(old, new)
    value = to_json(replace(body, state=state)).encode()
    mark = hashlib.sha256(state.encode()).digest()
    return replace(entry, input_value=value, state_digest=mark if sign else entry.state_digest)


@dataclass(frozen=True, slots=True)
class WiderSum:
    """``Sum`` of a later release."""

    total: int = 0
    last_us: int = 0
    times: Mapping[str, int] = field(default_factory=dict)
    noted: int = 0


def widely(state: WiderSum, event: Event, params: Any) -> tuple[WiderSum, Effects]:
    after, effects = decide(Sum(state.total, state.last_us, state.times), event, params)
    return WiderSum(after.total, after.last_us, after.times, 0), effects


WIDER = replace(SPEC, initial=lambda params: WiderSum(), decide=widely)


def test_a_journal_of_a_release_with_another_state_is_compared_by_what_both_know() -> None:
    replay, found = replayed(WIDER, as_records(journal(SNAPSHOT_EVERY + 20)))
    assert (found, replay.num_reshaped) == ([], 1)
    newer = written(WIDER, numbers(SNAPSHOT_EVERY + 20))
    replay, found = replayed(SPEC, as_records(newer))
    assert (found, replay.num_reshaped) == ([], 1)
    replay, found = replayed(SPEC, as_records(newer)[500:])  # and nothing to begin from but that snapshot
    assert (replay.num_reshaped, [each.part for each in found]) == (1, ["journal"])


def test_a_digest_that_no_snapshot_explains_is_reported_at_the_end() -> None:
    entries = journal(SNAPSHOT_EVERY + 20)
    spoiled = replace(entries[999], state_digest=digest("another"))
    found = replayed(SPEC, as_records([*entries[:999], spoiled, *entries[1001:]])[:1000])[1]
    assert [(each.sequence, each.part) for each in found] == [(1000, "state")]
    with_snapshot = replayed(SPEC, as_records([*entries[:999], spoiled, *entries[1000:]]))[1]
    assert [(each.sequence, each.part) for each in with_snapshot] == [(1000, "state")]


@pytest.mark.parametrize("trimmed", [0, 60])
def test_a_forged_snapshot_is_named(trimmed: int) -> None:
    entries = journal(120, take_over_at=[100])
    at = next(at for at, entry in enumerate(entries) if entry.kind == "snapshot")

    def look(forged: JournalEntry) -> Difference:
        return replayed(SPEC, as_records([*entries[:at], forged, *entries[at + 1 :]])[trimmed:])[1][0]

    unsigned = look(respelled(entries[at], '"total":', '"total":1', sign=False))
    assert (unsigned.offset, unsigned.what) == (2 * at, "the snapshot's state does not have its digest")
    garbage = look(replace(entries[at], input_value=b"{}"))
    assert (garbage.offset, garbage.what.startswith("the snapshot cannot be read")) == (2 * at, True)
    signed = look(respelled(entries[at], '"total":', '"total":1'))
    # With nothing before it a snapshot is believed, and what follows from it is not what the journal says.
    assert (signed.offset, signed.part) == ((2 * at, "state") if not trimmed else (2 * at + 2, "effects"))


def test_forged_cursors_are_named() -> None:
    entries = journal(120, take_over_at=[100])
    at = next(at for at, entry in enumerate(entries) if entry.kind == "snapshot")
    value = to_json(replace(snapshot_body(entries[at]), cursors={"in/0": 5})).encode()
    found = first([*entries[:at], replace(entries[at], input_value=value), *entries[at + 1 :]])
    assert (found.sequence, found.what) == (at + 1, "the cursors are not those of the snapshot")


def test_an_agent_of_ours_with_its_own_records() -> None:
    signal = ContextSignal("r", "constraint", "model/*", '{"field":"max_batch_size","maximum":4}', "x", 1)
    inputs = [(Input("control.context", 0, at, b"r", REAL.encode("control.context", signal)), at) for at in range(9)]
    records = as_records(written(PLANNER, inputs, REAL, take_over_at=[5]), REAL)
    assert replayed(PLANNER, records, REAL)[1] == []

    def deaf(state: Any, event: Event, params: Any) -> tuple[Any, Effects]:
        return planner.decide(state, event, params) if isinstance(event.record, Tick) else (state, ())

    (found, *_) = replayed(replace(PLANNER, decide=deaf), records, REAL)[1]
    assert (found.sequence, found.kind) == (6, "snapshot")
    assert found.what.startswith('the state differs at rules.r: {"constraint":')
    assert found.what.endswith("in the journal, nothing today")


def test_records_are_taken_one_by_one() -> None:
    replay = Replay(SPEC, PLAIN)
    assert [replay.take(*record) for record in as_records(journal(3))] == [None] * 3
    assert replay.agent.state.total == 3

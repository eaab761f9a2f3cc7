"""The check of memory's chain: whatever is done to one record of the log is found where it was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from schemas.memory import MemoryEntry, MemoryEvent
from streams.chain_check import EVENTS, STATE, ChainCheck, Report, StateRecord
from streams.codec import Codec, SchemaIds
from streams.errors import PoisonRecordError
from streams.link_check import NOWHERE, SIGNED, Anchor, Finding
from streams.memory_fold import StoredEvent, extend
from streams.memory_view import MemoryHead, MemoryView

CODEC = Codec(SchemaIds.local())
DECODE: Callable[[bytes | None], MemoryEvent] = partial(CODEC.decode, EVENTS)
Log = list[bytes | None]
States = dict[str, StateRecord]


def chain(keys: Sequence[tuple[str, bool]]) -> Log:
    """Values that follow each other; a key whose flag is set, and that is there, is removed."""
    values: Log = []
    versions: dict[str, int] = {}
    last = bytes(32)
    for number, (key, removed) in enumerate(keys, start=1):
        gone = removed and key in versions
        version = versions.get(key, 0) + 1
        body = None if gone else f'{{"n":{number}}}'
        event = MemoryEvent(
            *(number, last, f"c{number}", "planner", "Removed" if gone else "Set", key, version, body),
            *(f"reason {number}", (), number * 1000),
        )
        if gone:
            del versions[key]
        else:
            versions[key] = version
        values.append(CODEC.encode(EVENTS, event))
        last = StoredEvent.of(event, values[-1] or b"").value_hash
    return values


def view_of(log: Log) -> MemoryView:
    """What readers make of a log."""
    events = []
    for value in log:
        try:
            events.append(StoredEvent.of(DECODE(value), value or b""))
        except PoisonRecordError:
            continue
    return extend(MemoryView(), events)[0]


def states_of(log: Log) -> States:
    """``memory.state`` as the Orchestrator would have it after this log."""
    entries = view_of(log).entries
    return {key: StateRecord(number, entry) for number, (key, entry) in enumerate(sorted(entries.items()))}


def check(log: Log, states: States, noted: MemoryHead | None = None, *signed: MemoryHead) -> Report:
    """Check a log whose offsets are dense from 0 on."""
    anchors = [*([] if noted is None else [Anchor(noted)]), *(Anchor(head, SIGNED) for head in signed)]
    made = ChainCheck(DECODE, 0, anchors)
    for offset, value in enumerate(log):
        made.record(offset, value)
    return made.report(len(log), states)


def first_fault(report: Report) -> tuple[str, int]:
    assert report.faults
    return report.faults[0].topic, report.faults[0].offset


KEYS = st.tuples(st.sampled_from(["plan/a", "active/a", "incident/1"]), st.booleans())
CHAINS = st.lists(KEYS, min_size=3, max_size=9).map(chain)


def flipped(value: bytes | None, at: int, bit: int) -> bytes:
    changed = bytearray(value or b"")
    changed[at % len(changed)] ^= 1 << bit
    return bytes(changed)


@given(CHAINS)
def test_a_whole_chain_is_sound(log: Log) -> None:
    view = view_of(log)
    report = check(log, states_of(log))
    assert (report.faults, report.voids) == ((), ())
    assert (report.head, report.head_offset, report.num_keys) == (view.head, len(log) - 1, len(view.entries))
    for number in range(1, len(log) + 1):
        assert check(log, states_of(log), view_of(log[:number]).head).faults == ()


@given(CHAINS, st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_found_in_each_record_but_the_last(log: Log, at: int, bit: int) -> None:
    states = states_of(log)
    for k in range(len(log) - 1):
        report = check([*log[:k], flipped(log[k], at, bit), *log[k + 1 :]], states)
        assert first_fault(report) == (EVENTS, k)


@given(CHAINS, st.integers(0, 10_000), st.integers(0, 7))
def test_also_after_the_states_were_rewritten_in_each_but_the_last_two(log: Log, at: int, bit: int) -> None:
    for k in range(len(log) - 2):
        changed = [*log[:k], flipped(log[k], at, bit), *log[k + 1 :]]
        assert first_fault(check(changed, states_of(changed))) == (EVENTS, k)


@given(CHAINS, st.integers(0, 10_000), st.integers(0, 7))
def test_in_the_last_record_it_takes_a_noted_head(log: Log, at: int, bit: int) -> None:
    changed = [*log[:-1], flipped(log[-1], at, bit)]
    states, head = states_of(changed), view_of(log).head
    assert check(changed, states).faults == ()  # nothing names the last one, and memory.state was rewritten
    assert first_fault(check(changed, states, head)) == (EVENTS, len(log) - 1)
    before = [*log[:-2], flipped(log[-2], at, bit), log[-1]]
    assert first_fault(check(before, states_of(before), head)) == (EVENTS, len(log) - 2)


@given(CHAINS)
def test_a_truncation_takes_a_noted_head(log: Log) -> None:
    head = view_of(log).head
    for length in range(len(log)):
        report = check(log[:length], states_of(log[:length]))
        assert report.faults == ()
        report = check(log[:length], states_of(log[:length]), head)
        assert first_fault(report) == (EVENTS, length)
        assert report.faults[0].sequence == length + 1


@given(CHAINS)
def test_a_removed_record_is_found(log: Log) -> None:
    states = states_of(log)
    for k in range(len(log) - 1):
        report = check([*log[:k], *log[k + 1 :]], states)
        assert first_fault(report) == (EVENTS, k)
        assert report.faults[0].sequence == k + 1
        assert f"sequence {k + 1} is missing" in report.faults[0].what


@given(CHAINS)
def test_exchanged_records_are_found(log: Log) -> None:
    states = states_of(log)
    for i in range(len(log)):
        for j in range(i + 1, len(log)):
            changed = log.copy()
            changed[i], changed[j] = log[j], log[i]
            assert first_fault(check(changed, states)) == (EVENTS, i)


FORGED = st.builds(
    lambda sequence, prev_hash, body: CODEC.encode(
        EVENTS, MemoryEvent(sequence, prev_hash, "x", "planner", "Set", "plan/a", 1, body, "", (), 1)
    ),
    st.integers(-2, 20),
    st.binary(min_size=32, max_size=32),
    st.just('"forged"'),
)


@given(CHAINS, st.one_of(st.binary(max_size=40), st.none(), FORGED))
def test_what_somebody_else_wrote_is_void_and_breaks_nothing(log: Log, foreign: bytes | None) -> None:
    states = states_of(log)
    for at in range(len(log) + 1):
        report = check([*log[:at], foreign, *log[at:]], states)
        assert [each.offset for each in report.voids] == [at]
        assert report.faults == ()
        assert report.head == view_of(log).head


@given(CHAINS)
def test_a_copy_of_a_record_is_void(log: Log) -> None:
    states = states_of(log)
    for i, value in enumerate(log):
        for at in range(len(log) + 1):
            report = check([*log[:at], value, *log[at:]], states)
            # A copy right before its original is the one that counts: they are the same bytes.
            assert [each.offset for each in report.voids] == [at + 1 if at == i else at]
            assert report.faults == ()


LOG = chain([("plan/a", False), ("active/a", False), ("plan/a", False), ("plan/a", True), ("active/a", False)])


def test_voids_beside_a_break_are_listed_and_the_bad_record_is_not_one_of_them() -> None:
    log = [b"theirs", LOG[0], flipped(LOG[1], 0, 0), *LOG[2:], b"theirs"]
    report = check(log, states_of(LOG))
    assert [each.offset for each in report.voids] == [0, 6]
    (fault,) = report.faults
    assert (fault.offset, fault.sequence) == (2, 2)
    assert "it should be sequence 2 and was changed: it cannot be read" in fault.what


def test_every_kind_of_break_says_what_it_is() -> None:
    states = states_of(LOG)
    event = DECODE(LOG[2])
    other_reason = CODEC.encode(EVENTS, dataclasses.replace(event, reason="another"))
    other_link = CODEC.encode(EVENTS, dataclasses.replace(event, prev_hash=bytes(32)))
    other_number = CODEC.encode(EVENTS, dataclasses.replace(event, sequence=9))
    for value, what in (
        (other_reason, "names another hash: this one was changed"),
        (other_link, "prev_hash of sequence 3 is not the hash"),
        (other_number, "it should be sequence 3 and was changed"),
    ):
        (fault,) = check([*LOG[:2], value, *LOG[3:]], states).faults
        assert (fault.offset, fault.sequence) == (2, 3)
        assert what in fault.what


def test_holes_are_found_and_markers_are_none() -> None:
    made = ChainCheck(DECODE, 0)
    made.marker(0)
    made.record(1, LOG[0])
    made.marker(4)
    made.record(5, LOG[1])
    report = made.report(8, states_of(LOG[:2]))
    assert [(each.offset, each.what) for each in report.faults] == [
        (2, "offsets 2 to 3 hold neither a record nor a transaction marker"),
        (6, "offsets 6 to 7 hold neither a record nor a transaction marker"),
    ]
    assert (report.num_records, report.num_markers) == (2, 2)


def test_a_log_whose_beginning_is_gone() -> None:
    made = ChainCheck(DECODE, 2)
    for offset in (2, 3, 4):
        made.record(offset, LOG[offset])
    report = made.report(5, states_of(LOG))
    assert [(each.offset, each.sequence) for each in report.faults] == [(2, 1), (2, 0)]
    assert "sequence 1 is missing; sequence 3 comes next" in report.faults[0].what


def test_states_that_differ_are_named_by_key() -> None:
    states = states_of(LOG)
    entry = states["active/a"].entry
    assert entry is not None
    wrong = {
        "active/a": StateRecord(7, dataclasses.replace(entry, body="{}")),
        "plan/a": StateRecord(8, MemoryEntry("plan/a", 2, 3, "{}", 1)),
        "incident/1": StateRecord(9, None, "bytes are left over"),
        "gone": StateRecord(10, None),
    }
    found = {each.what.partition(":")[0]: each for each in check(LOG, wrong).faults}
    assert {key: (each.topic, each.offset, each.sequence) for key, each in found.items()} == {
        "active/a": (STATE, 7, 5),
        "plan/a": (STATE, 8, 3),
        "incident/1": (STATE, 9, 0),
    }
    assert "and the events say that it is not there" in found["plan/a"].what
    assert "cannot be read here (bytes are left over)" in found["incident/1"].what
    (missing,) = check(LOG, {}).faults
    assert (missing.topic, missing.offset, missing.sequence) == (STATE, NOWHERE, 5)


def test_a_noted_head_that_never_stood() -> None:
    (fault,) = check(LOG, states_of(LOG), MemoryHead(3, b"\x01" * 32)).faults
    assert (fault.offset, fault.sequence) == (2, 3)
    assert check(LOG, states_of(LOG), MemoryHead()).faults == ()
    assert check(LOG, states_of(LOG), MemoryHead(0, b"\x01" * 32)).faults == (
        Finding(EVENTS, NOWHERE, 0, "no head has sequence 0"),
    )


def test_signed_heads_show_an_end_that_was_replaced_or_cut_off() -> None:
    signed = [view_of(LOG[:number]).head for number in (2, 4, 5)]
    whole = check(LOG, states_of(LOG), None, *signed)
    assert (whole.faults, whole.signed) == ((), 5)
    shorter = LOG[:3]
    (cut,) = check(shorter, states_of(shorter), None, *signed).faults
    assert (cut.offset, cut.sequence) == (3, 4)
    assert "the signed head is 5: its end was cut off" in cut.what

    forged = DECODE(LOG[3])
    other = CODEC.encode(EVENTS, dataclasses.replace(forged, reason="a forger who knows the last hash"))
    last = dataclasses.replace(DECODE(LOG[4]), prev_hash=StoredEvent.of(forged, other).value_hash)
    replaced = [*LOG[:3], other, CODEC.encode(EVENTS, last)]
    report = check(replaced, states_of(replaced), None, *signed)
    (fault,) = report.faults
    assert (fault.offset, fault.sequence, report.signed) == (3, 4, 2)
    assert "its hash is not the signed one: it was changed, or one behind sequence 2 and all since" in fault.what


def test_a_forged_event_that_follows_by_hash_is_found_by_the_next_signed_head() -> None:
    """Who knows the last hash writes the next event first; readers take it, and the writer's own is refused."""
    view = view_of(LOG)
    forged = MemoryEvent(6, view.last_hash, "x", "planner", "Set", "plan/a", 1, '"forged"', "", (), 1)
    own = dataclasses.replace(forged, body='"own"')
    values = [*LOG, CODEC.encode(EVENTS, forged), CODEC.encode(EVENTS, own)]
    signed = StoredEvent.of(own, values[-1] or b"").value_hash
    report = check(values, states_of([*LOG, values[-1]]), None, MemoryHead(6, signed))
    assert (report.faults[0].topic, report.faults[0].offset, report.faults[0].sequence) == (EVENTS, 5, 6)
    assert "not the signed one" in report.faults[0].what
    # Where the state was written anew from the forged one, the signed head still says so.
    assert first_fault(check(values, states_of(values), None, MemoryHead(6, signed))) == (EVENTS, 5)

"""The fold of memory: the chain decides what counts, any past point can be had again."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from schemas.memory import MemoryEntry, MemoryEvent
from streams.canonical import to_json
from streams.memory_fold import StoredEvent, apply, at_sequence, at_time, extend
from streams.memory_view import ZERO_HASH, MemoryHead, MemoryView


def stored(event: MemoryEvent) -> bytes:
    return to_json(event).encode()


def chain(*changes: tuple[str, str | None]) -> list[StoredEvent]:
    """Events that follow each other, 10 us apart from 10 us on."""
    events: list[StoredEvent] = []
    versions: dict[str, int] = {}
    last = ZERO_HASH
    for number, (key, body) in enumerate(changes, start=1):
        versions[key] = versions.get(key, 0) + 1
        event = MemoryEvent(number, last, f"c{number}", "test", "Set", key, versions[key], body, "", (), number * 10)
        events.append(StoredEvent.of(event, stored(event)))
        last = events[-1].value_hash
    return events


def test_apply_accepts_what_follows() -> None:
    (first,) = chain(("k", "1"))
    view, reason = apply(MemoryView(), first.event, stored(first.event))
    assert reason is None
    assert view.head == MemoryHead(1, hashlib.sha256(stored(first.event)).digest())
    assert dict(view.entries) == {"k": MemoryEntry("k", 1, 1, "1", 10)}


def test_apply_voids_what_does_not_follow() -> None:
    first, second = chain(("k", "1"), ("k", "2"))
    view, _ = apply(MemoryView(), first.event, stored(first.event))
    for wrong, why in (
        (first.event, "sequence 1 does not follow 1"),
        (replace(second.event, sequence=4), "sequence 4 does not follow 1"),
        (replace(second.event, prev_hash=bytes(32)), "prev_hash of sequence 2 is not the hash of the event before it"),
    ):
        assert apply(view, wrong, stored(wrong)) == (view, why)
    assert apply(view, second.event, stored(second.event))[0].entries["k"].body == "2"


def test_removal_and_points_in_the_past() -> None:
    events = chain(("a", "1"), ("b", "2"), ("a", None))
    forged = replace(events[0].event, sequence=2, prev_hash=b"x" * 32, time_us=10_000)
    with_forgery = [events[0], StoredEvent.of(forged, stored(forged)), *events[1:]]
    assert dict(extend(MemoryView(), with_forgery)[0].entries) == {"b": MemoryEntry("b", 1, 2, "2", 20)}
    assert set(at_sequence(with_forgery, 2).entries) == {"a", "b"}
    assert set(at_time(with_forgery, 29).entries) == {"a", "b"}
    assert set(at_time(with_forgery, 30).entries) == {"b"}
    assert at_time(events, 9) == MemoryView()
    assert at_sequence(events, 99).sequence == 3


changes = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.text(max_size=3)), max_size=30)


@given(changes, st.lists(st.integers(0, 30), max_size=10))
def test_duplicates_never_change_the_fold(made: list[tuple[str, str | None]], repeats: list[int]) -> None:
    events = chain(*made)
    noisy = list(events)
    for at in repeats:
        if at < len(events):
            noisy.insert(noisy.index(events[at]) + 1, events[at])
    clean, voids = extend(MemoryView(), events)
    assert voids == ()
    assert extend(MemoryView(), noisy)[0] == clean


@given(changes, st.integers(0, 30))
def test_folding_in_parts_is_folding_at_once(made: list[tuple[str, str | None]], cut: int) -> None:
    events = chain(*made)
    part, _ = extend(MemoryView(), events[:cut])
    assert part == at_sequence(events, cut)
    assert extend(part, events[cut:])[0] == extend(MemoryView(), events)[0]

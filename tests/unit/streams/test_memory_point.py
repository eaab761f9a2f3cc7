"""Memory at a sequence with the events behind each key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.memory import MemoryEvent
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.memory_fold import at_sequence
from streams.memory_point import MemoryPoint
from tests.unit.streams.test_memory_fold import chain, stored

EVENTS = chain(("a", "1"), ("b", "2"), ("a", "3"), ("b", None), ("a", "5"))


def decode(value: bytes | None) -> MemoryEvent:
    if value is None:
        raise PoisonRecordError("null_value", "the record has no value")
    return from_json(MemoryEvent, value.decode())


def point_at(sequence: int) -> MemoryPoint:
    """A point over a log with records of others at its beginning and behind each event."""
    point = MemoryPoint(decode, sequence)
    values = [b"garbage", *(value for each in EVENTS for value in (stored(each.event), None, stored(each.event)))]
    for offset, value in enumerate(values):
        if not point.record(offset, value):
            break
    return point


@given(st.integers(1, 5))
def test_it_is_the_fold_of_memory(sequence: int) -> None:
    point = point_at(sequence)
    assert point.is_reached
    assert point.view == at_sequence(EVENTS, sequence)


def test_each_key_has_the_event_that_made_it() -> None:
    point = point_at(3)
    made = {key: point.made_by(key) for key in ("a", "b", "c")}
    assert {key: each and (each.offset, each.event.sequence) for key, each in made.items()} == {
        "a": (7, 3),
        "b": (4, 2),
        "c": None,
    }
    assert point_at(4).made_by("b") is None


def test_a_log_that_ends_before_is_not_reached_and_nothing_is_taken_behind() -> None:
    assert not point_at(6).is_reached
    assert point_at(6).view.sequence == 5
    done = point_at(2)
    assert not done.record(99, stored(EVENTS[2].event))
    assert done.view.sequence == 2

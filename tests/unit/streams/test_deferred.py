"""Frames that wait: those whose time has come, or all in the order they came; none twice, none forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.deferred import DeferredFrames
from streams.ordering import Entry, InOrder


def entry(offset: int) -> Entry[Any]:
    return InOrder[Any]().start(SimpleNamespace(message=SimpleNamespace(offset=offset)))


def filled(*frames: tuple[int, int], sequence: int = 7) -> DeferredFrames:
    """Frames by (offset, time), pushed in this order."""
    made = DeferredFrames()
    for offset, until_us in frames:
        made.push(offset, until_us, entry(offset), sequence)  # type: ignore[arg-type]
    return made


def offsets(found: list[Any]) -> list[int]:
    return [each.frame for each in found]


def test_those_whose_time_has_come_are_due_soonest_first() -> None:
    waiting = filled((1, 300), (2, 100), (3, 200))
    assert waiting.next_us() == 100
    assert sorted(waiting.frames()) == [1, 2, 3]  # type: ignore[type-var]
    assert offsets(waiting.due(50, 7)) == []
    assert offsets(waiting.due(200, 7)) == [2, 3]
    assert (len(waiting), waiting.next_us()) == (1, 300)


def test_all_are_due_in_the_order_they_came_when_memory_changed() -> None:
    waiting = filled((5, 300), (4, 100), (6, 200))
    assert not waiting.changed(7)
    assert waiting.changed(8)
    assert offsets(waiting.due(0, 8)) == [4, 5, 6]
    assert (len(waiting), waiting.changed(9)) == (0, False)


def test_what_was_put_back_for_want_of_room_is_due_with_the_next_look() -> None:
    waiting = filled((1, 900), (2, 800))
    found = waiting.due(0, 8)
    waiting.put_back(found[1:])
    assert (waiting.lacks_room, waiting.changed(8)) == (True, True)
    assert offsets(waiting.due(0, 8)) == [2]
    assert not waiting.lacks_room


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=20), st.lists(st.integers(0, 50)))
def test_every_frame_comes_back_once_and_not_before_its_time(frames: list[tuple[int, int]], looks: list[int]) -> None:
    waiting = filled(*frames)
    until = dict(enumerate(frames))
    found: list[Any] = []
    for now_us in sorted(looks):
        due = waiting.due(now_us, 7)
        assert all(each.until_us <= now_us for each in due)
        found += due
    found += waiting.due(100, 7)
    assert sorted(each.number for each in found) == [number + 1 for number in until]
    assert len(waiting) == 0

"""Lines of the edge: what is ready at the front leaves, in order, once, and no row passes one on its way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.committed import Progress
from streams.edge.key_lines import KeyLines
from streams.frame_builder import Row
from tests.support.frames import row


@dataclass(eq=False)
class Late:
    """A row that waits."""

    holder: Any
    row: Row
    is_ready: bool = False
    is_lined_up: bool = False


def progress(generation: int = 1) -> Progress:
    return Progress(TopicPartition("requests", 0), generation)


def late(owner: Progress, offset: int, key: str = "k", *, ready: bool = True) -> Late:
    return Late((owner, None), row(offset, routing_key=key), ready)


def current(_: Progress) -> bool:
    return True


def test_a_row_that_is_not_ready_holds_those_behind_it_and_no_other_key() -> None:
    lines, owner = KeyLines(), progress()
    first, second, other = late(owner, 1, ready=False), late(owner, 2), late(owner, 3, "other")
    for each in (first, second, other):
        lines.join(each)
    assert first.is_lined_up
    assert lines.take(current) == [other]
    first.is_ready = True
    assert lines.take(current) == [first, second]


def test_a_line_stands_until_what_was_taken_has_left() -> None:
    lines, owner = KeyLines(), progress()
    first, second = late(owner, 1), late(owner, 2)
    lines.join(first)
    assert lines.take(current) == [first]
    assert lines.holds(owner, second.row)
    lines.join(second)
    assert lines.take(current) == []
    lines.left([first])
    assert lines.take(current) == [second]
    lines.left([second])
    assert not lines.holds(owner, second.row)
    assert (bool(lines), lines.num_rows, lines.num_bytes) == (False, 0, 0)


def test_a_closed_line_gives_nothing_until_it_is_open() -> None:
    lines, first = KeyLines(), late(progress(), 1)
    lines.join(first)
    lines.is_open = False
    assert lines.take(current) == []
    lines.is_open = True
    assert lines.take(current) == [first]


def test_lines_of_another_generation_go() -> None:
    lines, old, new = KeyLines(), progress(1), progress(2)
    lines.join(late(old, 1))
    lines.join(late(new, 1, ready=False))
    assert lines.take(lambda each: each is new) == []
    assert (lines.holds(old, row(2, routing_key="k")), lines.num_rows) == (False, 1)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20), st.randoms(use_true_random=False))
def test_rows_of_a_key_leave_once_and_in_order(columns: list[tuple[str, bool]], rng: Any) -> None:
    lines, owner = KeyLines(), progress()
    waiting = [late(owner, offset, key, ready=ready) for offset, (key, ready) in enumerate(columns)]
    left: list[Late] = []
    leaving: list[list[Late]] = []
    to_join = list(waiting)
    for _ in range(10 * len(waiting) + 10):
        act = rng.randrange(4)
        if act == 0 and to_join:
            lines.join(to_join.pop(0))
        elif act == 1 and waiting:
            rng.choice(waiting).is_ready = True
        elif act == 2:
            leaving.append(lines.take(current))
            left += leaving[-1]
        elif leaving:
            lines.left(leaving.pop(rng.randrange(len(leaving))))
    for each in [*to_join]:
        lines.join(each)
    for each in waiting:
        each.is_ready = True
    for group in leaving:
        lines.left(group)
    left += lines.take(current)
    for key in (b"a", b"b"):
        offsets = [each.row.offset for each in left if each.row.routing_key == key]
        assert offsets == [each.row.offset for each in waiting if each.row.routing_key == key]
    assert (lines.num_rows, lines.num_bytes) == (0, 0)

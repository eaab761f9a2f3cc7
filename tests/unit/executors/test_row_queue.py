"""One queue: who is first, what rides along, and what is given up."""

from __future__ import annotations

from collections import deque

import pytest

from executors.profile import Profile
from executors.row_queue import AGE_US, BatchKey, ModelLoad, RowQueue, take
from executors.row_slice import RowSlice

FAR = 1 << 50


def queue_of(*rows: tuple[int, int, int]) -> RowQueue:
    """A queue of single rows: priority, when it came, deadline; a row's frame is its number."""
    made = RowQueue(BatchKey("m", "v1.0.0", ()), ("m", "v1.0.0"), 4, ModelLoad())
    for number, (priority, queued_us, deadline_us) in enumerate(rows):
        lane = made.lanes.setdefault(priority, deque())
        lane.append(RowSlice(number, 0, 0, 1, 0, 1, priority, queued_us, deadline_us, [1], [deadline_us]))
        made.num_items += 1
    return made


@pytest.mark.parametrize(
    ("now_us", "order", "urgency"),
    [
        (0, [2, 5, 9], 2),
        (6 * AGE_US, [2, 5, 9], 0),  # all that was here at 0 has risen, 9 to class 3
        (10 * AGE_US, [2, 5, 9], 0),  # in one class the more urgent go first, however old the others are
    ],
)
def test_class_then_priority(now_us: int, order: list[int], urgency: int) -> None:
    queue = queue_of((9, 0, FAR), (5, 0, FAR), (2, 0, FAR))
    assert queue.ordered(now_us) == order
    assert queue.urgency_at(now_us) == urgency


def test_who_waited_longer_passes_fresh_rows_of_a_more_urgent_priority() -> None:
    queue = queue_of((9, 0, FAR), (5, 6 * AGE_US, FAR))
    assert queue.ordered(6 * AGE_US) == [9, 5]


@pytest.mark.parametrize(("per_item_us", "taken"), [(1.0, [2, 1, 0]), (300.0, [2, 1]), (5_000.0, [2])])
def test_less_urgent_rows_ride_along_as_far_as_they_cost_little(per_item_us: float, taken: list[int]) -> None:
    profile = Profile(450.0, per_item_us, 8)
    queue = queue_of((9, 0, FAR), (5, 0, FAR), (2, 0, FAR))
    batch = take(queue, profile, 0)
    assert [row_slice.frame for row_slice in batch.slices] == taken
    assert batch.num_items == len(taken) <= profile.ride_cap


def test_what_cannot_be_done_in_time_is_given_up_on_the_way() -> None:
    queue = queue_of((5, 0, 1_002), (5, 0, 1_003), (5, 0, FAR))
    batch = take(queue, Profile(0.0, 1.0, 8), 1_000)
    assert [row_slice.frame for row_slice in batch.expired] == [0]
    assert [row_slice.frame for row_slice in batch.slices] == [1, 2]
    assert queue.lanes == {}

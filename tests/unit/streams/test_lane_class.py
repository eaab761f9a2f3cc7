"""Lanes by class: the last ones are slow, every model has exactly one, and one lane at least is fast."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.plan import HASHED, SLOW
from streams.lane_class import (
    POOL,
    SLOW_POOL,
    executor_group,
    lane_for,
    lane_of_frame,
    lanes_beside,
    lanes_in_use,
    lanes_of,
    pool_of,
)

numbers = st.integers(1, 12)


@given(numbers, st.integers(0, 12))
def test_every_lane_is_of_one_class_and_one_is_fast(num_lanes: int, num_slow: int) -> None:
    fast, slow = (lanes_of(num_lanes, num_slow, slow=each) for each in (False, True))
    assert [*fast, *slow] == list(range(num_lanes))
    assert len(fast) >= 1
    assert len(slow) == min(num_slow, num_lanes - 1)


@given(st.text(min_size=1), st.sampled_from((HASHED, SLOW)), numbers, st.integers(0, 12))
def test_a_model_is_at_home_in_its_class(model: str, planned: int, num_lanes: int, num_slow: int) -> None:
    lane = lane_for(model, planned, num_lanes, num_slow)
    assert lane == lane_for(model, planned, num_lanes, num_slow)
    expected = lanes_of(num_lanes, num_slow, slow=planned == SLOW) or lanes_of(num_lanes, num_slow, slow=False)
    assert lane in expected


def test_a_planned_lane_is_taken_as_it_is() -> None:
    assert [lane_for("m", lane, 4, 1) for lane in (0, 3, 5)] == [0, 3, 1]


def test_no_lanes_at_all_are_none_of_either_class() -> None:
    assert not lanes_of(0, 1, slow=False)
    assert not lanes_of(0, 1, slow=True)


def test_the_classes_are_groups_of_their_own() -> None:
    assert executor_group(slow=False) != executor_group(slow=True)


@given(numbers, st.integers(0, 12))
def test_beside_a_lane_are_the_others_of_its_class_the_next_first(num_lanes: int, num_slow: int) -> None:
    for slow in (False, True):
        lanes = lanes_of(num_lanes, num_slow, slow=slow)
        for lane in lanes:
            beside = lanes_beside(lane, num_lanes, num_slow)
            assert sorted((lane, *beside)) == list(lanes)
            assert beside[:1] == ((lane + 1 if lane + 1 in lanes else lanes[0]),)[: len(lanes) - 1]
    assert lanes_beside(num_lanes, num_lanes, num_slow) == ()


@given(st.text(min_size=1), st.sampled_from((HASHED, SLOW)), numbers, st.integers(0, 12), st.integers(0, 12))
def test_as_many_lanes_are_in_use_as_executors_of_their_class_are_ready(
    model: str, planned: int, num_lanes: int, num_slow: int, replicas: int
) -> None:
    fast, slow = (lanes_of(num_lanes, num_slow, slow=each) for each in (False, True))
    lanes = lanes_in_use(model, planned, num_lanes, num_slow, replicas)
    if planned == SLOW and slow:
        assert sorted(lanes) == list(slow[: max(1, replicas)])
        assert pool_of(planned, num_lanes, num_slow) == SLOW_POOL
    else:
        assert sorted(lanes) == list(fast[: max(1, replicas)])
        assert pool_of(planned, num_lanes, num_slow) == POOL


def test_a_planned_lane_is_used_alone() -> None:
    assert lanes_in_use("m", 3, 4, 0, 2) == (3,)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 2), (7, 3), (1 << 40, 1)])
def test_frames_take_turns_also_where_only_every_second_or_third_counts(count: int, first: int, step: int) -> None:
    turns = Counter(lane_of_frame(range(count), first + step * at) for at in range(1_000))
    assert set(turns) == set(range(count))
    assert max(turns.values()) - min(turns.values()) <= 12


def test_beside_a_lane_are_only_those_in_use() -> None:
    assert lanes_beside(0, 5, 1, 2) == (1,)
    assert lanes_beside(3, 5, 1, 2) == (0, 1)
    assert lanes_beside(0, 5, 1, 0) == ()
    assert lanes_beside(4, 6, 2, 1) == (5,)

"""An open loop's instants: as many are due as have come, and never one before its time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench.schedule import MAX_REQUESTS, Schedule

STEPS = st.lists(st.tuples(st.floats(1, 5_000), st.floats(0.1, 5)), min_size=1, max_size=4)


@settings(deadline=None)
@given(STEPS, st.floats(0, 25))
def test_due_and_instants_agree(steps, elapsed):
    schedule = Schedule.of(steps)
    due = schedule.due(elapsed)
    times = schedule.times_us(schedule.size)
    assert 0 <= due <= schedule.size
    assert (np.diff(times) >= 0).all()
    assert (times[:due] <= elapsed * 1e6 + 1).all()
    if elapsed < schedule.end_s:
        assert (times[due:] >= elapsed * 1e6 - 1).all()
        assert schedule.at_s(due) >= elapsed - 1e-9


def test_one_rate():
    schedule = Schedule.of(((100.0, 2.0),))
    assert (schedule.due(0.0), schedule.due(0.0101), schedule.due(2.0), schedule.size) == (1, 2, 200, 200)
    assert schedule.times_us(3).tolist() == [0, 10_000, 20_000]
    assert schedule.at_s(200) == 2.0


def test_pieces_follow_each_other():
    schedule = Schedule.of(((10.0, 1.0), (100.0, 1.0), (10.0, 1.0)))
    assert schedule.size == 120
    assert schedule.at_s(10) == pytest.approx(1.0)
    assert schedule.at_s(11) == pytest.approx(1.01)
    assert schedule.due(1.999) == 110
    assert schedule.times_us(112)[[10, 110, 111]].tolist() == [1_000_000, 2_000_000, 2_100_000]


def test_a_run_without_end_is_bounded():
    assert Schedule.of(((1e6, 600.0),)).size == MAX_REQUESTS

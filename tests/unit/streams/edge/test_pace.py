"""How often an edge makes frames."""

from __future__ import annotations

import pytest

from streams.edge.pace import BURST, FRAMES_PER_S, Pace


def test_what_comes_alone_is_not_kept_waiting() -> None:
    pace = Pace(0.01)
    assert [pace.wait_s(at * 0.05, 1) for at in range(5)] == [0.0] * 5


def test_a_burst_and_then_the_budget() -> None:
    pace, now, waits = Pace(0.01), 100.0, []
    for _ in range(200):
        waits.append(pace.wait_s(now, 1))
        now += waits[-1] + 0.002  # a tick takes 2 ms itself
    assert waits[: BURST - 1] == [0.0] * (BURST - 1)
    assert (now - 100.0) == pytest.approx(200 / FRAMES_PER_S, abs=0.05)


def test_more_partitions_have_longer_ticks_and_so_have_larger_settings() -> None:
    for tick_s, frames, period_s in ((0.01, 4, 0.04), (0.1, 1, 0.1)):
        pace, now = Pace(tick_s), 0.0
        for _ in range(100):
            now += pace.wait_s(now, frames)
        assert now == pytest.approx(100 * period_s, rel=0.05)


def test_a_slow_process_does_not_wait() -> None:
    pace = Pace(0.01)
    assert [pace.wait_s(at * 0.011, 1) for at in range(50)] == [0.0] * 50

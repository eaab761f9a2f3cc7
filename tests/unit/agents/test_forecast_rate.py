"""Holt's method: level and trend, a step followed, a line foreseen, times that are uneven or run back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.forecast_rate import Holt, forecast, observed
from tests.support.control import SECOND


def seen(*points: tuple[float, float]) -> Holt:
    """What is known after values at seconds."""
    known: Holt | None = None
    for at_s, value in points:
        known = observed(known, value, int(at_s * SECOND))
    assert known is not None
    return known


def test_by_hand() -> None:
    """With a = 10 / 20 and b = 10 / 40: the level goes half way, the trend takes a quarter of what it moved by."""
    assert seen((1, 100.0), (11, 200.0)) == Holt(150.0, 1.25, 11 * SECOND)
    # level = 0.5 * 200 + 0.5 * (150 + 12.5), trend = 0.25 * (181.25 - 150) / 10 + 0.75 * 1.25
    assert seen((1, 100.0), (11, 200.0), (21, 200.0)) == Holt(181.25, 1.71875, 21 * SECOND)


def test_a_constant_stays_and_has_no_trend() -> None:
    known = seen(*((second, 42.0) for second in range(1, 50)))
    assert (known.level, known.trend, forecast(known, 600)) == (42.0, 0.0, 42.0)


@pytest.mark.parametrize("spacing", [1.0, 2.5, 5.0])
def test_a_line_is_foreseen(spacing: float) -> None:
    known = seen(*((at * spacing, 10.0 + 3.0 * at * spacing) for at in range(1, 200)))
    ahead = 10.0 + 3.0 * (199 * spacing + 30)
    assert forecast(known, 30) == pytest.approx(ahead, rel=0.02)


def test_what_falls_is_never_foreseen_below_zero() -> None:
    known = seen(*((at, max(0.0, 100.0 - 10 * at)) for at in range(1, 12)))
    assert known.trend < 0
    assert forecast(known, 600) == 0.0


def test_an_observation_that_does_not_come_later_changes_nothing() -> None:
    known = seen((5, 10.0))
    assert observed(known, 99.0, 5 * SECOND) == known
    assert observed(known, 99.0, 4 * SECOND) == known


@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 1e9)), min_size=1, max_size=50), st.floats(0, 1e5))
def test_the_forecast_is_a_number_from_zero_on(steps: list[tuple[float, float]], ahead_s: float) -> None:
    known, at_us = None, 0
    for past_s, value in steps:
        at_us += int(past_s * SECOND)
        known = observed(known, value, at_us)
    assert known is not None
    assert 0.0 <= forecast(known, ahead_s) < float("inf")

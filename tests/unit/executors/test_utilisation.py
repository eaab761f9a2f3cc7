"""Utilisation: what batches take, and what their items would take in full ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.profile import Profile
from executors.utilisation import Shares, Utilisation

PROFILE = Profile(100.0, 10.0, 10)  # t(1) = 110, t(10) = 200


def test_single_items_are_busy_and_not_useful() -> None:
    window = Utilisation(1_000.0)
    for _ in range(5):
        window.observe(1, 110.0, PROFILE)
    busy, useful, fill = window.close(2_100.0)
    assert (busy, useful, fill) == pytest.approx((0.5, 5 * 20 / 1_100, 0.1))
    assert window.close(3_100.0) == Shares(0.0, 0.0, 0.0)


def test_batches_may_be_noted_by_one_of_them() -> None:
    each, sampled = Utilisation(0.0), Utilisation(0.0)
    for _ in range(8):
        each.observe(3, 130.0, PROFILE)
    sampled.busy_us += 8 * 130.0
    sampled.sample(3, PROFILE, 8)
    assert each.close(5_000.0) == pytest.approx(sampled.close(5_000.0))


def test_a_window_of_no_time_is_no_division_by_zero() -> None:
    assert Utilisation(5.0).close(5.0) == Shares(0.0, 0.0, 0.0)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=20))
def test_useful_is_at_most_busy_and_both_agree_for_full_batches(sizes: list[int]) -> None:
    window = Utilisation(0.0)
    for size in sizes:
        window.observe(size, PROFILE.time_us(size), PROFILE)
    busy, useful, fill = window.close(10_000.0)
    assert useful <= busy + 1e-9
    assert fill == pytest.approx(sum(sizes) / 10 / len(sizes))
    if set(sizes) == {10}:
        assert useful == pytest.approx(busy)

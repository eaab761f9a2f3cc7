"""Batches grow while it pays: full ones where the fixed part dominates, short ones where the time per item does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.profile import FIXED_SHARE, LONG_BATCH_US, LONG_SHARE, MIN_BATCH_US, Profile


@pytest.mark.parametrize(
    ("fixed_us", "per_item_us", "cap", "ride_cap"),
    [
        (35.0, 3.0, 128, 128),  # the MLP of the benchmarks: its full batch is short
        (2_000.0, 5.0, 128, 128),  # as on a GPU
        (0.0, 0.0, 128, 128),  # not measured yet
        (20.0, 3_000.0, 3, 1),  # 3 ms a row
        (20.0, 80_000.0, 1, 1),
        (5_600.0, 77_000.0, 1, 1),  # the same, as a measurement errs
        (1_000.0, 200.0, 95, 5),  # 1 ms of 20 ms is 5 %, of 2 ms it is half
        (20_000.0, 10_000.0, 8, 2),  # 20 ms of 100 ms: long enough
    ],
)
def test_a_batch_is_as_large_as_pays(fixed_us: float, per_item_us: float, cap: int, ride_cap: int) -> None:
    profile = Profile(fixed_us, per_item_us, 128)
    assert (profile.cap, profile.ride_cap) == (cap, ride_cap)
    assert profile.full_batch_us == profile.time_us(cap)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 128))
def test_a_batch_below_the_models_own_limit_is_worth_its_time(fixed: float, per_item: float, limit: int) -> None:
    profile = Profile(fixed, per_item, limit)
    assert 1 <= profile.ride_cap <= profile.cap <= limit
    if profile.cap < limit:
        assert profile.full_batch_us >= MIN_BATCH_US * (1 - 1e-9)
        share = FIXED_SHARE if profile.full_batch_us < LONG_BATCH_US else LONG_SHARE
        assert fixed <= share * profile.full_batch_us * (1 + 1e-9)


def test_memory_may_bound_batches_within_the_models_limit() -> None:
    profile = Profile(1_000.0, 1_000.0, 64)
    assert (profile.bounded(32).cap, profile.bounded(1).cap, profile.bounded(200).cap) == (32, 1, 64)
    assert profile.bounded(32).bounded(0) == profile
    assert profile.bounded(0) is profile
    assert profile.bounded(32).ride_cap == profile.ride_cap


def test_the_plan_may_allow_fewer_items_than_the_model() -> None:
    profile = Profile(1_000.0, 0.0, 64)
    assert (profile.bounded(0, 16).cap, profile.bounded(0, 16).most, profile.bounded(0, 200).cap) == (16, 16, 64)
    assert profile.bounded(32, 16).cap == 16
    assert profile.bounded(0, 16).ride_cap <= 16
    assert profile.bounded(0, 16).bounded(0) == profile

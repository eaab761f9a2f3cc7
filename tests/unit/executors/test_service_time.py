"""The correction follows what is measured, slowly, and is handed out in steps."""

from __future__ import annotations

from executors.profile import Profile
from executors.service_time import BOUNDS, ServiceTime, ServiceTimes


def test_what_is_as_profiled_is_not_corrected() -> None:
    times = ServiceTime(Profile(100.0, 10.0, 8))
    assert all(times.observe(n, 100.0 + 10.0 * n) is None for n in range(1, 9) for _ in range(20))
    assert times.factor == 1.0


def test_a_session_that_is_slower_for_good_is_found_out() -> None:
    times = ServiceTime(Profile(100.0, 10.0, 8, weight=2.0))
    handed = [made for _ in range(200) if (made := times.observe(4, 2 * 140.0)) is not None]
    assert 1 <= len(handed) < 10
    assert abs(times.profile.time_us(4) - 280.0) < 5.0
    assert abs(handed[-1].time_us(4) / 280.0 - 1.0) < 0.2
    assert (handed[-1].max_batch_size, handed[-1].weight) == (8, 2.0)


def test_one_batch_that_was_put_aside_changes_little() -> None:
    times = ServiceTime(Profile(100.0, 0.0, 8))
    assert times.observe(1, 1e9) is None
    assert times.factor < 1.15


def test_the_correction_is_bounded() -> None:
    times = ServiceTime(Profile(100.0, 0.0, 8))
    for _ in range(1000):
        times.observe(1, 0.0)
    assert times.factor == BOUNDS[0]
    for _ in range(1000):
        times.observe(1, 1e9)
    assert times.factor == BOUNDS[1]


def test_who_is_given_up_as_too_slow_is_tried_again() -> None:
    times = ServiceTime(Profile(100.0, 0.0, 8))
    while times.factor < 3.0:
        times.observe(1, 1e9)
    handed = [made for _ in range(25) if (made := times.give_up()) is not None]
    assert handed[-1].fixed_us < 120.0  # soon as it was measured
    assert times.give_up() is None
    for _ in range(1000):
        times.give_up()
    assert times.factor == BOUNDS[0]


def test_a_profile_of_nothing_stays() -> None:
    assert ServiceTime(Profile(0.0, 0.0, 8)).observe(1, 5.0) is None


def test_a_session_that_was_loaded_anew_begins_with_its_own_profile() -> None:
    times, first, second = ServiceTimes(), Profile(100.0, 0.0, 8), Profile(100.0, 0.0, 8)
    kept = times.of(("digits", "v1.0.0"), first)
    kept.observe(1, 1e9)
    assert times.of(("digits", "v1.0.0"), first) is kept
    assert times.of(("digits", "v1.0.0"), second).factor == 1.0
    assert times.of(("digits", "v2.0.0"), first).factor == 1.0

"""A canary gets rows once every executor of its model holds it; a larger share adds keys and takes none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.canary_warmth import REPEAT_US, SETTLE_US, STALE_US, Split, heard, learnt, settled, shares, tells
from agents.route import version_for
from schemas.canary import Canary
from schemas.plan import Plan, VersionWeight
from schemas.telemetry import Heartbeat, LoadedModel
from tests.support.control import HERE, SECOND

BOTH = ("v1.0.0", "v2.0.0")
NEW = learnt(Split(), Canary("digits", "v2.0.0", 5), HERE)
START_US = 100 * SECOND


def beat(instance: int, *versions: str, sent_us: int = START_US, role: str = "executor") -> Heartbeat:
    models = tuple(LoadedModel("digits", version, "ab", "CPU", 1.0, 1.0) for version in versions)
    return Heartbeat(role, instance, 1, 1, sent_us, 0, models)


def told(split: Split, *beats: Heartbeat, now_us: int = START_US) -> Split:
    for each in beats:
        split = heard(split, "digits", "v1.0.0", each, now_us)
    return split


def warm(split: Split, now_us: int = START_US + SETTLE_US) -> bool:
    return settled(split, now_us).is_warm


def test_it_is_warm_once_each_executor_holds_it_and_all_had_time_to_say_so() -> None:
    assert not warm(NEW)
    one = told(NEW, beat(0, *BOTH))
    assert not warm(one, START_US + SETTLE_US - 1)
    assert warm(one)
    two = told(one, beat(1, "v1.0.0"))
    assert not warm(two)
    assert warm(told(two, beat(1, *BOTH)))


def test_who_has_nothing_to_do_with_the_model_does_not_count() -> None:
    split = told(NEW, beat(0, *BOTH), beat(1), beat(0, role="router"))
    assert list(split.words) == ["executor-0"]
    assert warm(split)


def test_who_was_not_heard_for_long_does_not_count_and_alone_makes_nothing_warm() -> None:
    split = told(NEW, beat(1, "v1.0.0"))
    later = START_US + STALE_US
    assert not warm(split, later)
    assert warm(told(split, beat(0, *BOTH), now_us=later), later)


@pytest.mark.parametrize(("is_slow", "expected"), [(False, True), (True, False)])
def test_only_executors_of_the_lanes_that_serve_it_count(is_slow: bool, expected: bool) -> None:
    split = told(NEW, beat(0, *BOTH), beat(4, "v1.0.0"))
    assert settled(split, START_US + SETTLE_US, 4, is_slow=is_slow).is_warm is expected
    assert not settled(split, START_US + SETTLE_US).is_warm


def test_the_same_word_is_news_once_in_a_while() -> None:
    split = told(NEW, beat(0, "v1.0.0"))
    again = beat(0, "v1.0.0", sent_us=START_US + REPEAT_US - 1)
    assert not tells(split, "digits", "v1.0.0", again)
    assert told(split, again) is split
    assert tells(split, "digits", "v1.0.0", replace(again, sent_us=START_US + REPEAT_US))
    assert tells(split, "digits", "v1.0.0", beat(0, *BOTH))
    done = settled(told(NEW, beat(0, *BOTH)), START_US + SETTLE_US)
    assert not tells(done, "digits", "v1.0.0", beat(1, "v1.0.0"))
    assert not tells(Split(), "digits", "v1.0.0", beat(0, *BOTH))


def test_another_share_needs_no_loading_and_another_version_does() -> None:
    done = settled(told(NEW, beat(0, *BOTH)), START_US + SETTLE_US)
    assert learnt(done, Canary("digits", "v2.0.0", 20), HERE) == replace(done, percent=20)
    assert not learnt(done, Canary("digits", "v3.0.0", 20), HERE).is_warm
    over = learnt(done, Canary("digits", "v2.0.0", 0), HERE)
    assert over == Split()
    assert not learnt(over, Canary("digits", "v2.0.0", 20), HERE).is_warm


def test_without_rows_for_it_the_active_version_serves_all() -> None:
    all_rows = (VersionWeight("v1.0.0", 100),)
    assert shares(NEW, "v1.0.0") == all_rows
    assert shares(Split(), "v1.0.0") == all_rows
    done = replace(NEW, is_warm=True)
    assert shares(done, "v1.0.0") == (VersionWeight("v1.0.0", 95), VersionWeight("v2.0.0", 5))
    assert shares(done, "v2.0.0") == (VersionWeight("v2.0.0", 100),)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1), st.integers(1, 99), st.integers(1, 99))
def test_a_larger_share_adds_keys_and_takes_none(keys: list[bytes], one: int, other: int) -> None:
    """A key that the canary served at 5 % it serves at 20 %, and one that it did not serve at 20 % not at 5 %."""
    small, large = sorted((one, other))
    plans = [
        Plan("digits", shares(replace(NEW, is_warm=True, percent=percent), "v1.0.0"), 8, 1_000)
        for percent in (small, large)
    ]
    for key in keys:
        versions = [version_for(plan, key) for plan in plans]
        assert versions != ["v2.0.0", "v1.0.0"]


@pytest.mark.parametrize("percent", [1, 5, 50, 99])
def test_the_share_of_many_keys_is_the_planned_one(percent: int) -> None:
    plan = Plan("digits", shares(replace(NEW, is_warm=True, percent=percent), "v1.0.0"), 8, 1_000)
    served = sum(version_for(plan, f"customer-{number}".encode()) == "v2.0.0" for number in range(20_000))
    deviation = (20_000 * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(served - 200 * percent) <= 4 * deviation

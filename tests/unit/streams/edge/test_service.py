"""What one report says of a row's wait; more that stands before it never makes it sooner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.load import VersionLoad
from streams.edge.service import FORGET_US, MAX_DRAIN_US, Service
from tests.support.forecasts import MS, T, finish_ms, forecast, queue, service, version, wait_ms


def test_a_row_alone_rides_at_once() -> None:
    assert finish_ms(service(forecast(version()))) == 2.0


def test_a_row_waits_for_the_batches_before_its_own() -> None:
    each = service(forecast(version(waiting=queue(8))))
    assert wait_ms(each) == 10.0  # two batches of four; its own is the third, and will be full
    assert finish_ms(each) == pytest.approx(10.0 + 5.0 + 10.0 + 10.0 / 16)  # and the margins
    assert wait_ms(each, ahead=4) == 15.0


def test_what_is_left_of_the_batch_under_way_is_waited_for() -> None:
    assert wait_ms(service(forecast(version(running_us=3000.0, is_long=True)))) == 3.0


def test_less_urgent_rows_do_not_count() -> None:
    each = service(forecast(version(waiting=queue(8))))
    assert wait_ms(each, priority=4) == 0.0
    assert wait_ms(each, priority=6) == 10.0


def test_versions_of_a_class_share_the_time() -> None:
    made = forecast(version(waiting=queue(3)), version("other", waiting=queue(40)))
    assert wait_ms(service(made)) == 5.0  # as long as its own batch again, not the other's fifty
    assert wait_ms(service(made, "other")) == pytest.approx(54.0)  # and the few of the first


def test_more_urgent_rows_of_others_go_first() -> None:
    made = forecast(version(), version("other", waiting=(8,)))
    assert wait_ms(service(made)) == 10.0
    assert wait_ms(service(made), priority=0) == 2.0  # shares: one batch of the other's


def test_long_batches_run_side_by_side() -> None:
    both = (version(waiting=queue(7), is_long=True), version("other", waiting=queue(7), is_long=True))
    assert wait_ms(service(forecast(*both))) == 5.0
    assert wait_ms(service(forecast(*both, num_threads=1))) > 10.0
    short = version("short", waiting=queue(400))
    assert wait_ms(service(forecast(*both, short))) == 5.0, "short ones run in the loop"


def test_time_that_passes_is_work_that_is_done() -> None:
    each = service(forecast(version(waiting=queue(8))))
    assert wait_ms(each, now_us=T + 4 * MS) == 6.0
    assert wait_ms(each, now_us=T + 400 * MS) == 0.0


def test_an_executor_that_fell_silent_with_work_is_not_taken_for_idle() -> None:
    each = service(forecast(version(waiting=queue(4000))))
    assert wait_ms(each, now_us=T + FORGET_US) == 5000.0 - MAX_DRAIN_US / 1000


priorities = st.integers(0, 9)
waiting = st.lists(st.integers(0, 300), max_size=10).map(tuple)
versions = st.builds(
    version,
    st.sampled_from(("digits", "other", "third")),
    waiting,
    fixed_us=st.floats(0, 5000),
    per_item_us=st.floats(0.1, 3000),
    max_batch_size=st.integers(1, 128),
    is_long=st.booleans(),
    running_us=st.sampled_from((0.0, 500.0)),
)


def known(each: VersionLoad, others: list[VersionLoad]) -> Service:
    names = {each.model: each} | {other.model: other for other in others if other.model != each.model}
    return service(forecast(*names.values()), each.model)


@given(versions, st.lists(versions, max_size=2), priorities, st.integers(1, 128))
def test_nobody_waits_where_nothing_waits(
    each: VersionLoad, others: list[VersionLoad], priority: int, items: int
) -> None:
    idle = [replace(other, waiting_items=(), running_us=0.0) for other in (each, *others)]
    items = min(items, each.max_batch_size)
    finish, wait = known(idle[0], idle[1:]).finish_us(priority, np.zeros(1), np.array([items]), T)
    assert wait[0] == 0.0
    assert finish[0] == pytest.approx(T + each.fixed_us + each.per_item_us * items)


@given(versions, st.lists(versions, max_size=2), priorities, st.integers(0, 500), st.integers(0, 500))
def test_more_before_a_row_never_makes_it_sooner(
    each: VersionLoad, others: list[VersionLoad], priority: int, one: int, more: int
) -> None:
    found = known(each, others)
    ahead = np.array([one, one + more])
    (few, many), _ = found.finish_us(priority, ahead, np.ones(2), T)
    assert few <= many
    found.admitted(priority, more, more, T)
    assert many == found.finish_us(priority, np.array([one]), np.ones(1), T)[0][0]


@given(versions, st.lists(versions, max_size=2), priorities, st.integers(0, 9), st.integers(1, 300))
def test_more_that_waits_never_makes_it_sooner(
    each: VersionLoad, others: list[VersionLoad], priority: int, where: int, more: int
) -> None:
    longer = list(each.waiting_items) + [0] * (10 - len(each.waiting_items))
    longer[where] += more
    before = known(each, others).finish_us(priority, np.zeros(1), np.ones(1), T)[0][0]
    after = known(replace(each, waiting_items=tuple(longer)), others).finish_us(priority, np.zeros(1), np.ones(1), T)[
        0
    ][0]
    assert before <= after


@given(versions, st.lists(versions, max_size=2), priorities, st.lists(st.integers(1, 99), min_size=1, max_size=9))
def test_the_last_is_done_last(each: VersionLoad, others: list[VersionLoad], priority: int, items: list[int]) -> None:
    found = known(each, others)
    found.admitted(priority, 3, 7, T)
    own = np.array(items)
    finish, _ = found.finish_us(priority, np.cumsum(own) - own, own, T)
    latest = found.latest_us(priority, sum(items), T)
    assert latest == finish[-1] == finish.max()
    found.rows_sent *= 3
    assert found.latest_us(priority, sum(items), T) >= found.finish_us(priority, np.cumsum(own) - own, own, T)[0].max()


@given(versions, st.lists(versions, max_size=2), priorities)
def test_less_urgent_rows_are_never_done_sooner(each: VersionLoad, others: list[VersionLoad], priority: int) -> None:
    found = known(each, others)
    more, less = (
        found.finish_us(which, np.zeros(1), np.ones(1), T)[0][0] for which in (priority, min(9, priority + 1))
    )
    assert more <= less + 1e-2


@given(versions, st.lists(versions, max_size=2))
def test_so_many_items_are_surely_near_no_limit(each: VersionLoad, others: list[VersionLoad]) -> None:
    found = known(each, others)
    sure = int(found.sure_items)
    if sure >= 1:
        finish, _ = found.finish_us(9, np.array([sure - 1]), np.ones(1), T)
        assert finish[0] - T <= 100_000

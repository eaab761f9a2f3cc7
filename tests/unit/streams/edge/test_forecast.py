"""The forecast: nobody waits where nothing waits, more work makes it no shorter, reports are believed for a while."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.load import ExecutorLoad, VersionLoad
from streams.edge.forecast import FORGET_US, FRESH_US, MAX_DRAIN_US, MAX_SENT, Forecast, Service

T = 1_700_000_000_000_000
MS = 1_000


def version(model: str = "digits", waiting: tuple[int, ...] = (), **fields: Any) -> VersionLoad:
    """A version that takes 1 ms and 1 ms per item, in batches of 4."""
    return replace(VersionLoad(model, "v1.0.0", 1000.0, 1000.0, 4, False, 0.0, 0, 0, waiting), **fields)


def load(
    *versions: VersionLoad, executor: str = "executor-0", sent_us: int = T, newest_us: int = T, num_threads: int = 2
) -> ExecutorLoad:
    return ExecutorLoad(executor, sent_us, newest_us, num_threads, versions)


def forecast(*versions: VersionLoad, num_threads: int = 2) -> Forecast:
    made = Forecast()
    made.take(load(*versions, num_threads=num_threads), T)
    return made


def service(made: Forecast, model: str = "digits", pinned: str = "", now_us: int = T) -> Service:
    found = made.service(model, pinned, now_us)
    assert found is not None
    return found


def finish_ms(each: Service, priority: int = 5, ahead: int = 0, items: int = 1, now_us: int = T) -> float:
    """Milliseconds from T until one row is done."""
    finish, _ = each.finish_us(priority, np.array([ahead]), np.array([items]), now_us)
    return float(finish[0] - T) / 1000


def wait_ms(each: Service, priority: int = 5, ahead: int = 0, items: int = 1, now_us: int = T) -> float:
    """Milliseconds that one row waits, margins left out."""
    _, wait = each.finish_us(priority, np.array([ahead]), np.array([items]), now_us)
    return float(wait[0]) / 1000


def queue(*items: int) -> tuple[int, ...]:
    """Items that wait with priority 5."""
    return (0, 0, 0, 0, 0, *items)


def test_nothing_is_known_without_a_report() -> None:
    assert Forecast().service("digits", "", T) is None
    assert forecast(version()).service("letters", "", T) is None
    assert forecast(version()).service("digits", "v2.0.0", T) is None


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


def test_where_frames_go_to_the_executor_with_least_to_do_its_report_counts() -> None:
    made, in_turn = Forecast(lambda model: model == "digits"), Forecast()
    for each in (made, in_turn):
        each.take(load(version(waiting=queue(0), num_taken=4), executor="executor-1"), T)
        each.take(load(version(waiting=queue(400), num_taken=4)), T + MS)
    assert wait_ms(service(made), now_us=T + MS) == 0.0
    assert wait_ms(service(in_turn), now_us=T + MS) > 400.0
    made.take(load(version(waiting=queue(40), num_taken=8), executor="executor-1"), T + 2 * MS)
    assert 40.0 < wait_ms(service(made), now_us=T + 2 * MS) < 100.0, "its own, whatever it says"
    made.take(load(version(waiting=queue(8), num_taken=8)), T + 3 * MS)
    assert wait_ms(service(made), now_us=T + 3 * MS) == 7.0, "the first one's: it has less now"
    later = T + 3 * MS + FRESH_US + 1
    made.take(load(version(waiting=queue(400), num_taken=12), executor="executor-1", sent_us=later), later)
    assert wait_ms(service(made, now_us=later), now_us=later) > 400.0, "nothing newer is known"


def test_what_the_others_take_counts_for_their_share() -> None:
    made = Forecast(lambda _model: True)
    for number in range(1, 40):
        service_of = made.service("digits", "", T + number * 100 * MS)
        if service_of is not None:
            service_of.admitted(5, 20, 20, T + number * 100 * MS)
        for at, waits in ((0, 90), (1, 0)):
            now_us = T + number * 100 * MS + 50 * MS
            told = version(waiting=queue(waits), num_taken=10 * number)
            made.take(load(told, executor=f"executor-{at}", sent_us=now_us, newest_us=now_us), now_us)
    assert service(made, now_us=T + 4_000 * MS).ratio == pytest.approx(0.5, abs=0.15)


def test_an_old_report_says_nothing() -> None:
    made = forecast(version(waiting=queue(4000)))
    service(made).admitted(5, 10, 10, T)
    assert made.service("digits", "", T + FORGET_US + 1) is None
    assert list(made.waits_us(T + FORGET_US + 1)) == []
    assert service(made).sent == {}, "and what was sent since is forgotten"


def test_what_was_admitted_waits_until_the_executor_has_taken_it() -> None:
    made = forecast(version())
    each = service(made)
    each.admitted(5, 8, 8, T + 10)
    each.admitted(5, 4, 4, T + 20)
    each.admitted(9, 100, 100, T + 20)
    assert wait_ms(each) == 15.0
    made.take(load(version(num_taken=8, waiting=queue(8)), newest_us=T + 10), T)
    assert wait_ms(each) == 15.0
    made.take(load(version(num_taken=12), newest_us=T + 20), T)
    assert wait_ms(each) == 0.0


def test_what_a_standing_executor_does_not_take_is_remembered_within_bounds() -> None:
    made = forecast(version())
    each = service(made)
    for number in range(3 * MAX_SENT):
        each.admitted(5, 1, 2, T + number)
    assert len(each.sent[5].times_us) == MAX_SENT
    assert each.sent[5].num_items == 6 * MAX_SENT
    made.take(load(version(), newest_us=T + MAX_SENT - 2), T)
    assert each.sent[5].num_items == 6 * MAX_SENT - 2 * (MAX_SENT - 1)
    made.take(load(version(), newest_us=T + 3 * MAX_SENT), T)
    assert each.sent[5].num_items == 0


def test_how_much_of_what_is_sent_arrives_is_learned() -> None:
    made = forecast(version())
    each = service(made)
    for number in range(1, 40):
        each.admitted(5, 40, 40, T + number)
        made.take(load(version(num_taken=10 * number), newest_us=T + number), T)
    assert each.ratio == pytest.approx(0.3, abs=0.1)  # three of four are answered by the cache
    each.admitted(5, 40, 40, T + 99)
    assert wait_ms(each) < 20.0


def test_rows_of_other_edges_are_learned_too() -> None:
    made = forecast(version())
    each = service(made)
    for number in range(1, 40):
        each.admitted(5, 40, 40, T + number)
        made.take(load(version(num_taken=80 * number), newest_us=T + number), T)
    assert each.ratio == pytest.approx(2.0, abs=0.2)


def test_an_executor_that_starts_anew_counts_from_nought() -> None:
    made = forecast(version(num_taken=1000))
    made.take(load(version(num_taken=5, waiting=queue(8))), T)
    assert service(made).ratio == 1.0
    assert wait_ms(service(made)) == 10.0


def test_a_version_that_moved_is_known_where_it_is_served_now() -> None:
    made = forecast(version(num_taken=10, waiting=queue(4000)))
    made.take(load(version(num_taken=3), executor="executor-1"), T)
    assert wait_ms(service(made)) == 0.0
    made.take(load(version(num_taken=10, waiting=queue(4000))), T)
    assert wait_ms(service(made)) == 0.0, "only what it had before is there"


def test_what_is_learned_is_learned_of_all_that_take_turns() -> None:
    made = forecast(version())
    late = {"executor-0": 0, "executor-1": 0}
    for number in range(1, 60):
        service(made).admitted(5, 40, 40, T + number)
        for name in late:
            late[name] += 2 if number < 10 else 0
            made.take(load(version(num_taken=10 * number, num_late=late[name]), executor=name, newest_us=T + number), T)
        if number == 9:
            assert service(made).caution > 3.0
    assert service(made).caution < 0.1
    assert service(made).ratio == pytest.approx(0.25, abs=0.1)  # each takes a quarter: the cache answers half


def test_executors_that_take_turns_share_what_was_admitted_since() -> None:
    made = forecast(version())
    for number in range(1, 40):
        service(made).admitted(5, 100, 100, T + number)
        for name in ("executor-0", "executor-1"):
            made.take(load(version(num_taken=50 * number), executor=name, newest_us=T + number), T + number)
    each = service(made)
    assert each.ratio == pytest.approx(0.5, abs=0.1)
    each.admitted(5, 80, 80, T + 50)
    assert wait_ms(each) == pytest.approx(each.ratio * 80 / 4 * 5.0, abs=5.0)  # batches of four


def test_copies_of_its_rows_elsewhere_say_nothing() -> None:
    made = forecast(version(num_taken=10))
    made.take(load(version(waiting=queue(4000)), executor="executor-1"), T)
    assert wait_ms(service(made)) == 0.0


def test_rows_that_pin_none_go_where_most_go() -> None:
    canary = version(version="v2.0.0", waiting=queue(4000))
    made = forecast(version(), canary)
    for number in range(1, 9):
        for pinned, num_rows in (("v1.0.0", 90), ("v2.0.0", 10)):
            service(made, pinned=pinned).admitted(5, num_rows, num_rows, T)
        made.take(load(version(num_taken=90 * number), replace(canary, num_taken=10 * number)), T)
    assert wait_ms(service(made)) < 5.0
    assert wait_ms(service(made, pinned="v2.0.0")) == 5000.0


def test_a_version_that_nobody_asks_for_is_forgotten() -> None:
    made = forecast(version(), version("other"))
    service(made).admitted(5, 100, 100, T)
    made.take(load(version(num_taken=100), version("other")), T)
    made.take(load(version("other", num_taken=1)), T)
    assert made.service("digits", "", T) is not None
    for number in range(100):
        made.take(load(version("other", num_taken=number)), T)
    assert made.service("digits", "", T) is None
    assert made.service("digits", "v1.0.0", T) is None
    assert [name for (name, _), _ in made.waits_us(T)] == ["other"]


def test_a_version_that_a_report_leaves_out_has_nothing_waiting() -> None:
    made = forecast(version(waiting=queue(4000)))
    service(made).admitted(5, 4000, 4000, T)
    made.take(load(version(waiting=queue(4000), num_taken=4000)), T)
    assert wait_ms(service(made)) == 5000.0
    made.take(load(), T)
    assert wait_ms(service(made)) == 0.0


@pytest.mark.parametrize("skew_us", [-10_000_000, 10_000_000])
def test_an_executor_whose_clock_is_off_is_believed_all_the_same(skew_us: int) -> None:
    made = Forecast()
    made.take(load(version(waiting=queue(4000)), sent_us=T + skew_us), T)
    assert 4_500.0 <= wait_ms(service(made)) <= 5_000.0


def test_rows_that_are_late_all_the_same_make_it_careful_for_a_while() -> None:
    made = forecast(version(waiting=queue(8)))
    before = finish_ms(service(made))
    for number in range(1, 3):
        made.take(load(version(waiting=queue(8), num_taken=10 * number, num_late=number)), T)
    assert finish_ms(service(made)) == pytest.approx(before + 2 * 0.5 * 10.0)
    for number in range(3, 200):
        made.take(load(version(waiting=queue(8), num_taken=10 * number, num_late=2)), T)
    assert finish_ms(service(made)) == pytest.approx(before, abs=0.5)


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

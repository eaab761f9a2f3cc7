"""The forecast: nobody waits where nothing waits, more work makes it no shorter, reports are believed for a while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.edge.forecast import Forecast
from streams.edge.service import FORGET_US, FRESH_US, MAX_SENT
from tests.support.forecasts import MS, T, finish_ms, forecast, load, queue, service, version, wait_ms


def test_nothing_is_known_without_a_report() -> None:
    assert Forecast().service("digits", "", T) is None
    assert forecast(version()).service("letters", "", T) is None
    assert forecast(version()).service("digits", "v2.0.0", T) is None


def test_where_frames_go_to_the_executor_with_least_to_do_its_report_counts() -> None:
    made, in_turn = Forecast(lambda model, _now_us: model == "digits"), Forecast()
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


def test_where_frames_take_turns_again_the_newest_report_counts() -> None:
    made = Forecast(lambda _model, now_us: now_us < T + 3 * MS)
    for at, (executor, waits) in enumerate([("executor-1", 0), ("executor-0", 400), ("executor-1", 0)]):
        told = version(waiting=queue(waits), num_taken=4 * at + 4)
        made.take(load(told, executor=executor), T + at * MS)
    assert wait_ms(service(made), now_us=T + 2 * MS) == 0.0
    made.take(load(version(waiting=queue(400), num_taken=16)), T + 3 * MS)
    assert wait_ms(service(made), now_us=T + 3 * MS) > 400.0


def test_what_the_others_take_counts_for_their_share() -> None:
    made = Forecast(lambda _model, _now_us: True)
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

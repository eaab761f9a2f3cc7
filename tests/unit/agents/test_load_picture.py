"""The Scaler's picture of the load: newest words, gaps said and never zero, what is forgotten."""

from __future__ import annotations

import pytest

from agents import load_picture
from agents.capacity import work_of
from agents.load_picture import (
    Demand,
    Picture,
    PictureParams,
    demand_of,
    forget,
    live_executors,
    live_routers,
    tells_nothing,
)
from schemas.load import ExecutorLoad, VersionLoad
from schemas.plan import SLOW, Plan, VersionWeight
from schemas.telemetry import Heartbeat, LoadedModel, RouterLoad
from tests.support.control import SECOND

PARAMS = PictureParams(first_slow=4)
S = SECOND
PLAN = Plan("digits", (VersionWeight("v1.0.0", 75), VersionWeight("v2.0.0", 25)), 100, 30_000)
TIMES = (
    LoadedModel("digits", "v1.0.0", "ab", "CPU", 1_000.0, 90.0),  # 100 us an item, 10 ms a batch
    LoadedModel("digits", "v2.0.0", "cd", "CPU", 2_000.0, 180.0),  # 200 us, 20 ms
)


def beat(role: str, instance: int, sent_us: int, models: tuple[LoadedModel, ...] = ()) -> Heartbeat:
    return Heartbeat(role, instance, 1, 1, sent_us, 0, models)


def waits(executor: str, sent_us: int, *items: tuple[str, int]) -> ExecutorLoad:
    versions = tuple(VersionLoad(model, "v1.0.0", 1, 1, 8, False, 0.0, 0, 0, (0, num)) for model, num in items)
    return ExecutorLoad(executor, sent_us, 0, 2, versions)


def busy() -> Picture:
    picture = load_picture.hear(Picture(), beat("router", 0, S), S)
    picture = load_picture.hear(picture, beat("executor", 0, S, TIMES), S)
    picture = load_picture.route(picture, RouterLoad("digits", 1_000.0, 0, S, 0, 2_000.0), S)
    picture = load_picture.route(picture, RouterLoad("digits", 500.0, 3, S, 1, 1_000.0), S)
    picture = load_picture.queue(picture, waits("executor-0", S, ("digits", 40)), S)
    return Picture(
        picture.heard_us, picture.loads, picture.waiting, picture.times, {"digits": load_picture.plan_of(PLAN)}, S
    )


def test_the_demand_sums_routers_and_executors_by_the_planned_versions_times() -> None:
    time_us, batch_us = 0.75 * 100 + 0.25 * 200, 0.75 * 10_000 + 0.25 * 20_000
    assert demand_of(busy(), 2 * S, PARAMS) == Demand(
        rows_per_s=1_500.0,
        items_per_s=3_000.0,
        work=round(work_of(1_500, 3_000, time_us), 6),
        num_held=3,
        waiting=40,
        backlog_s=round(work_of(40, 40, time_us), 6),
        ongoing=round(3_000 * batch_us / 1e6 + 40, 3),
    )


def test_a_newer_word_takes_the_older_ones_place_and_zero_ends_it() -> None:
    picture = load_picture.route(busy(), RouterLoad("digits", 0.0, 0, 2 * S, 0), 2 * S)
    picture = load_picture.route(picture, RouterLoad("digits", 0.0, 0, 2 * S, 1), 2 * S)
    picture = load_picture.queue(picture, waits("executor-0", 2 * S), 2 * S)
    assert demand_of(picture, 30 * S, PARAMS) == Demand()
    assert Demand().is_zero
    assert not demand_of(busy(), 2 * S, PARAMS).is_zero
    assert picture.busy_us == S


def test_words_that_nobody_took_back_are_gaps_and_still_count() -> None:
    demand = demand_of(busy(), 9 * S, PARAMS)
    assert demand.rows_per_s == 1_500.0
    assert demand.gaps == (
        "the load of digits is 8 s old",
        "the load of digits is 8 s old",
        "what waits in executor-0 was said 8 s ago",
    )


def test_what_edges_refuse_for_want_of_executors_is_demand_too() -> None:
    refused = RouterLoad("digits", 0.0, 0, S, 0, 600.0, 300.0, "edge")
    before, after = demand_of(busy(), 2 * S, PARAMS), demand_of(load_picture.route(busy(), refused, S), 2 * S, PARAMS)
    assert (after.rows_per_s, after.items_per_s, after.refused_per_s) == (1_800.0, 3_600.0, 600.0)
    assert after.work == pytest.approx(before.work + work_of(300, 600, 125.0))
    assert after.ongoing == before.ongoing


def test_a_router_of_an_older_release_says_rows_and_these_count_as_items() -> None:
    picture = load_picture.route(Picture(), RouterLoad("digits", 7.0, 0, S), S)
    assert demand_of(picture, S, PARAMS).items_per_s == 7.0


def test_models_of_the_slow_lanes_are_not_this_pools() -> None:
    slow = load_picture.plan_of(Plan("digits", (VersionWeight("v1.0.0", 100),), 8, 1_000, SLOW))
    picture = busy()
    picture = Picture(picture.heard_us, picture.loads, picture.waiting, picture.times, {"digits": slow}, S)
    assert demand_of(picture, 99 * S, PARAMS) == Demand()
    assert demand_of(picture, 2 * S, PictureParams(has_slow=False)).waiting == 40


def test_who_is_heard() -> None:
    picture = busy()
    assert (live_executors(picture, 5 * S, PARAMS), live_routers(picture, 5 * S, PARAMS)) == (1, 1)
    assert (live_executors(picture, 6 * S, PARAMS), live_routers(picture, 6 * S, PARAMS)) == (0, 0)
    late = load_picture.hear(picture, beat("executor", 1, 2 * S), 50 * S)
    assert late.heard_us["executor-1"] == 2 * S
    ahead = load_picture.hear(picture, beat("executor", 1, 90 * S), 50 * S)
    assert ahead.heard_us["executor-1"] == 50 * S


def test_what_is_old_is_forgotten_at_last() -> None:
    picture = busy()
    assert forget(picture, 60 * S, PARAMS) is picture
    gone = forget(picture, 61 * S, PARAMS)
    assert (gone.heard_us, gone.loads, gone.waiting) == ({}, {}, {})
    assert gone.plans == picture.plans


@pytest.mark.parametrize(
    ("record", "nothing"),
    [
        (beat("edge", 0, 5 * S), True),
        (beat("executor", 4, 5 * S), True),  # a slow one
        (beat("executor", 3, 5 * S), False),
        (beat("router", 9, 5 * S), False),
        (waits("executor-0", S + 800_000, ("digits", 5)), True),
        (waits("executor-0", S + 900_000, ("digits", 5)), False),
        (waits("executor-0", S + 1), False),  # what was said is taken back
        (waits("executor-1", S + 1), True),
        (waits("executor-1", S + 1, ("digits", 5)), False),
        (waits("executor-4", S + 1, ("digits", 5)), True),
        (RouterLoad("digits", 0.0, 0, S), False),
    ],
)
def test_what_tells_nothing(record: object, nothing: bool) -> None:
    assert tells_nothing(busy(), record, PARAMS) == nothing

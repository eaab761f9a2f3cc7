"""What the Router tells of its load: rows, items and refusals by model, what is held, and one closing zero."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from schemas.frame import InferenceFrame
from schemas.telemetry import RouterLoad
from streams.check_id import TENANT
from streams.columns import end_rows
from streams.frame_effects import SendFrame
from streams.route_load import MOST_NOTED, RouteLoad
from tests.support.frames import T, frame, row

S = 1_000_000
DIGITS = [row(1, items=3), row(2, items=1)]
OTHER = [row(3, model="other", items=2)]


def given(made: InferenceFrame) -> SendFrame:
    return SendFrame("inference.routed", 0, made)


def told(load: RouteLoad, now_us: int) -> list[RouterLoad]:
    closed = load.close(now_us)
    assert {topic for topic, _ in closed} <= {"control.load"}
    return [record for _, record in closed]


def test_rows_and_items_by_model_and_then_a_zero() -> None:
    load = RouteLoad(2, lambda: (), T)
    load.add(given(frame([*DIGITS, *OTHER])))
    load.add(given(frame(DIGITS)))
    assert told(load, T + 2 * S) == [
        RouterLoad("digits", 2.0, 0, T + 2 * S, 2, 4.0, 0.0),
        RouterLoad("other", 0.5, 0, T + 2 * S, 2, 1.0, 0.0),
    ]
    load.add(given(frame(OTHER)))
    assert told(load, T + 3 * S) == [
        RouterLoad("digits", 0.0, 0, T + 3 * S, 2, 0.0, 0.0),
        RouterLoad("other", 1.0, 0, T + 3 * S, 2, 2.0, 0.0),
    ]
    assert told(load, T + 4 * S) == [RouterLoad("other", 0.0, 0, T + 4 * S, 2, 0.0, 0.0)]
    assert told(load, T + 5 * S) == []


def test_rows_that_it_ended_with_an_error_are_refusals_and_cached_answers_are_not() -> None:
    load = RouteLoad(0, lambda: (), T)
    load.add(SendFrame("inference.executed", 0, end_rows(frame(DIGITS), 2, [])))
    load.add(SendFrame("inference.executed", 0, end_rows(frame(OTHER), 1, [])))
    assert told(load, T + S) == [
        RouterLoad("digits", 0.0, 0, T + S, 0, 0.0, 2.0),
        RouterLoad("other", 0.0, 0, T + S, 0, 0.0, 0.0),
    ]


def test_what_waits_for_a_plan_is_told_but_not_what_waits_for_another_try() -> None:
    waiting = [frame(DIGITS), frame(OTHER), replace(frame(DIGITS), attempt=1)]
    load = RouteLoad(0, lambda: waiting, T)
    assert [(each.model, each.num_held) for each in told(load, T + S)] == [("digits", 2), ("other", 1)]
    waiting.clear()
    assert [(each.model, each.num_held) for each in told(load, T + 2 * S)] == [("digits", 0), ("other", 0)]


@pytest.mark.parametrize("topic", ["inference.routed", "inference.executed"])
def test_many_frames_are_counted_in_between(topic: str) -> None:
    load = RouteLoad(0, lambda: (), T)
    for _ in range(MOST_NOTED + 5):
        load.add(SendFrame(topic, 0, end_rows(frame(DIGITS), 2, [])))
    (record,) = told(load, T + S)
    count = 2.0 * (MOST_NOTED + 5)
    expected = (count, 2 * count, 0.0) if topic == "inference.routed" else (0.0, 0.0, count)
    assert (record.rows_per_s, record.items_per_s, record.refused_per_s) == expected


def test_rows_of_checks_are_no_load_but_for_one_that_wakes_who_sleeps() -> None:
    load = RouteLoad(0, lambda: (), T)
    checks = [row(at, items=16, tenant=TENANT) for at in range(4)]
    load.add(given(frame(checks)))
    load.add(given(frame(checks)))
    assert told(load, T + S) == [RouterLoad("digits", 1.0, 0, T + S, 0, 1.0, 0.0)]
    load.add(given(frame([*DIGITS, *checks, *OTHER])))
    load.add(SendFrame("inference.executed", 0, end_rows(frame([*checks, DIGITS[0]]), 2, [])))
    load.add(SendFrame("inference.executed", 0, end_rows(frame(checks), 2, [])))
    assert told(load, T + 2 * S) == [
        RouterLoad("digits", 2.0, 0, T + 2 * S, 0, 4.0, 1.0),
        RouterLoad("other", 1.0, 0, T + 2 * S, 0, 2.0, 0.0),
    ]
    assert [each.rows_per_s for each in told(load, T + 3 * S)] == [0.0, 0.0]


def test_a_frame_costs_next_to_nothing() -> None:
    """Best of many, and thirty times what it takes here (0.7 us): it must never be a look at each row."""
    sent, best = given(frame([row(n) for n in range(100)])), 1.0
    for _ in range(20):
        load = RouteLoad(0, lambda: (), T)
        began = time.perf_counter()
        for _ in range(100):
            load.add(sent)
        best = min(best, (time.perf_counter() - began) / 100)
    assert best < 20e-6

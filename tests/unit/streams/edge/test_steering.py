"""Frames go to the executor with the least to do, but in turn while waits are alike or nobody knows who takes what."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.load import ExecutorLoad, VersionLoad
from schemas.memory import MemoryEntry
from schemas.model import ModelVersion
from schemas.plan import SLOW, Plan, VersionWeight
from schemas.scaling import Replicas
from streams.canonical import to_json
from streams.edge.forecast import Forecast
from streams.edge.service import FORGET_US, FRESH_US
from streams.edge.steering import REST_US, SILENT_US, UNEVEN_US, Steering, _Queue, alone, ways_of
from streams.lane_class import lane_of_frame
from streams.memory_view import MemoryView

T = 1_700_000_000_000_000
MS = 1_000
S = 1_000_000
NAMES = ("executor-0", "executor-1", "executor-2")


def report(executor: str, waiting: int, now_us: int = T, *, newest_us: int = T, item_us: float = 1_000.0) -> Any:
    """An executor in which so many items of 1 ms wait."""
    load = VersionLoad("digits", "v1.0.0", 0.0, item_us, 4, False, 0.0, 1, 0, (0, waiting))
    return ExecutorLoad(executor, now_us, newest_us, 2, (load,))


def three(*waiting: int) -> Steering:
    steering = Steering(lambda model: NAMES if model == "digits" else ())
    for name, items in zip(NAMES, waiting, strict=False):
        steering.take(report(name, items), T)
    return steering


def lanes(steering: Steering, count: int, now_us: int = T, items: int = 1) -> list[int]:
    """Where so many frames in a row go."""
    found, number = [], 0
    for _ in range(count):
        number = steering.number(number, {"digits": items}, now_us)
        found.append(lane_of_frame(NAMES, number))
        number += 1
    return found


def test_while_waits_are_alike_frames_take_turns() -> None:
    for steering in (Steering(), three(), three(90, 10, 0), three(400, 350, 420)):
        assert [steering.number(each, {"digits": 1}, T) for each in range(9)] == list(range(9))
    assert not three(90, 10, 0).is_uneven, "nothing needs to be counted then"


def test_an_executor_with_a_backlog_gets_none_until_the_others_have_as_much() -> None:
    steering = three(400, 100)  # nobody heard of the third: nothing waits in it
    first = lanes(steering, 5, items=10)
    assert set(first) == {2}
    assert 0 not in lanes(steering, 35, items=10)
    assert 0 in lanes(steering, 60, items=10), "by then 400 ms wait in each"


def test_what_an_executor_took_is_in_its_report_and_time_that_passes_is_work_that_is_done() -> None:
    steering = three(400, 0)
    lanes(steering, 4, items=50)
    steering.take(report("executor-1", 100, newest_us=T), T)
    steering.take(report("executor-2", 100, newest_us=T), T)
    assert lanes(steering, 1, items=1)[0] in (1, 2)
    assert set(lanes(steering, 9, T + 350 * MS)) == {0, 1, 2}, "50 ms are left"


def test_a_model_that_has_one_lane_and_an_ordered_one_are_not_steered() -> None:
    steering = three(400, 0)
    assert steering.spreads("digits", T)
    assert not steering.spreads("other", T)
    assert [steering.number(each, {"other": 5}, T) for each in range(9)] == list(range(9))
    assert steering.number(7, {}, T) == 7
    assert lane_of_frame(NAMES, steering.number(0, {"other": 5, "digits": 1}, T)) != 0, "the other is no hindrance"
    assert alone("digits") == ()


def test_where_an_executor_takes_nothing_frames_take_turns_for_a_while() -> None:
    steering = three(400, 0)
    assert set(lanes(steering, 5)) <= {1, 2}
    later = T + SILENT_US + MS
    steering.take(report("executor-0", 3_000, later, newest_us=later), later)
    assert set(lanes(steering, 9, later)) == {0, 1, 2}
    steering.take(report("executor-0", 3_000, later + REST_US, newest_us=later), later + REST_US)
    assert 0 not in lanes(steering, 9, later + REST_US)


def test_an_old_report_says_nothing() -> None:
    steering = three(4_000, 0)
    later = T + FORGET_US + 1
    steering.take(report("executor-1", 200, later), later)
    assert 1 not in lanes(steering, 6, later)
    assert 0 in lanes(steering, 6, later)


def several(*waiting: int) -> Steering:
    """The lanes of three models stand in another order each; ``other`` has one lane."""
    turned = {model: (*NAMES[at:], *NAMES[:at]) for at, model in enumerate(("digits", "letters", "words"))}
    steering = Steering(lambda model: turned.get(model, NAMES[:1]))
    for name, items in zip(NAMES, waiting, strict=True):
        steering.take(report(name, items), T)
    return steering


def places(number: int) -> dict[str, int]:
    """The executor of each model's rows by the Router's rule."""
    at = lane_of_frame(NAMES, number)
    return {model: (at + turn) % 3 for turn, model in enumerate(("digits", "letters", "words"))}


def test_no_model_of_a_frame_is_sent_where_much_waits_for_the_sake_of_another() -> None:
    steering, number = several(4_000, 0, 0), 0
    for _ in range(60):
        number = steering.number(number, {"digits": 9, "letters": 1, "other": 90}, T)
        found = places(number)
        assert (found["digits"], found["letters"]) == (1, 2)
        number += 1
    assert [steering.number(each, {"other": 9}, T) for each in range(9)] == list(range(9))


def test_each_model_counts_for_the_executor_that_it_goes_to() -> None:
    steering = several(4_000, 0, 0)
    steering.number(1, {"digits": 1, "letters": 300}, T)  # 300 ms of letters, as nobody said how long they take
    assert lane_of_frame(NAMES, steering.number(0, {"digits": 1}, T)) in (1, 2)
    load = replace(report("executor-2", 0).versions[0], model="letters")
    steering = several(4_000, 0, 0)
    steering.take(replace(report("executor-2", 0), versions=(load,)), T)
    steering.number(0, {"digits": 1, "letters": 300}, T)
    assert {lane_of_frame(NAMES, steering.number(each, {"digits": 1}, T)) for each in range(9)} == {1}


def test_where_every_number_leads_one_model_to_the_busiest_frames_take_turns() -> None:
    steering = several(4_000, 0, 0)
    items = {"digits": 1, "letters": 1, "words": 1}
    assert [steering.number(each, items, T) for each in range(9)] == list(range(9))


def test_a_forecast_by_who_has_least_to_do_is_only_made_while_frames_go_there() -> None:
    steering = several(4_000, 0, 0)
    steering.number(0, {"digits": 1, "letters": 1}, T)
    assert all(steering.spreads(model, T) for model in ("digits", "letters", "words"))
    assert not steering.spreads("other", T)
    steering.number(0, {"digits": 1, "letters": 1, "words": 1}, T)  # the first number has words at the busiest
    assert [model for model in ("digits", "letters", "words") if not steering.spreads(model, T + FRESH_US - 1)] == [
        model for model, at in places(0).items() if at == 0
    ]
    assert all(steering.spreads(model, T + FRESH_US) for model in ("digits", "letters", "words"))
    later = T + SILENT_US + MS
    steering.take(report("executor-0", 4_000, later, newest_us=later), later)
    steering.number(0, {"digits": 1}, later)  # the others say nothing of what they were sent
    assert not steering.spreads("digits", later + REST_US - 1)
    assert steering.spreads("digits", later + REST_US)


@pytest.mark.parametrize("back_us", [300 * MS, 5 * S, 3_600 * S])
def test_a_clock_that_is_set_back_leaves_nothing_that_waits_for_its_return(back_us: int) -> None:
    steering = three(4_000, 0)
    assert set(lanes(steering, 9, items=10)) == {1, 2}
    back = T - back_us
    steering.take(report("executor-0", 4_000, back, newest_us=back), back)
    assert set(lanes(steering, 9, back)) == {0, 1, 2}, "what was sent is of the future: who has taken it is not known"
    number, found = 0, []
    for later in range(back + REST_US, back + REST_US + 2 * S, 10 * MS):
        if (later - back) % (250 * MS) == 0:
            for name, items in zip(NAMES, (4_000, 0, 0), strict=True):
                steering.take(report(name, items, later, newest_us=later - 10 * MS), later)
        number = steering.number(number, {"digits": 10}, later)
        found.append(lane_of_frame(NAMES, number))
        number += 1
    assert set(found) == {1, 2}
    assert max(found.count(1), found.count(2)) < 120, "neither has all of them"


def test_a_rest_ends_although_the_clock_is_set_back_meanwhile() -> None:
    steering = three(400, 0)
    lanes(steering, 5)
    later = T + SILENT_US + MS
    steering.take(report("executor-0", 4_000, later, newest_us=later), later)
    assert set(lanes(steering, 9, later)) == {0, 1, 2}
    back = T - 60 * S
    steering.take(report("executor-0", 4_000, back, newest_us=back), back)
    assert 0 not in lanes(steering, 9, back)


def test_a_report_of_the_future_says_nothing() -> None:
    steering = three(0, 4_000)
    back = T - 60 * S
    steering.take(report("executor-0", 1_000, back, newest_us=back), back)
    found = lanes(steering, 9, back)
    assert 0 not in found
    assert 1 in found


def test_what_an_executor_had_not_taken_when_the_clock_was_set_back_is_forgotten() -> None:
    queue = _Queue()
    for sent_us in (T, T + 10, T + 20, T - 100, T - 50):
        queue.add(sent_us, 1.0)
    queue.took(T - 100, T - 50)
    assert (list(queue.sent), queue.sent_us) == ([(T - 50, 1.0)], 1.0)


@given(st.lists(st.integers(0, 2_000), min_size=3, max_size=3), st.integers(0, 1 << 40), st.integers(1, 100))
def test_the_number_is_one_of_the_next_and_leads_to_the_least(waiting: list[int], number: int, items: int) -> None:
    steering = three(*waiting)
    found = steering.number(number, {"digits": items}, T)
    assert number <= found < number + 12
    at = lane_of_frame(NAMES, found)
    if (max(waiting) - min(waiting)) * MS > UNEVEN_US:
        assert (waiting[at] - min(waiting)) * MS <= UNEVEN_US / 2
    else:
        assert found == number


def view(lane: int = -1, ready: int | None = 2, *, ordered: bool = False, pool: str = "executors") -> MemoryView:
    plan = Plan("digits", (VersionWeight("v1.0.0", 100),), 4, 1_000, lane)
    facts = ModelVersion("digits", "v1.0.0", "ab", 1, (), (), ordered=ordered)
    bodies: dict[str, Any] = {"plan/digits": plan, "model/digits/v1.0.0": facts}
    if ready is not None:
        bodies[f"replicas/{pool}"] = Replicas(pool, ready, "")
    entries = {key: MemoryEntry(key, 1, 1, to_json(body), 0) for key, body in bodies.items()}
    return MemoryView(1, bytes(32), 0, MappingProxyType(entries))


def test_the_ways_of_a_model_are_the_lanes_that_its_router_uses() -> None:
    def ways(found: MemoryView, model: str = "digits") -> set[str]:
        return set(ways_of(lambda: found, 5, 1, 4)(model))

    assert ways(view()) == {"executor-0", "executor-1"}
    assert ways(view(ready=1)) == {"executor-0"}
    assert ways(view(ready=None)) == set(), "nobody said how many are ready"
    assert ways(view(lane=SLOW)) == set(), "of the fast ones only"
    assert ways(view(lane=SLOW, pool="executors-slow")) == {"executor-4"}
    assert set(ways_of(lambda: view(lane=SLOW, pool="executors-slow"), 6, 3, 7)("digits")) == {
        "executor-7",
        "executor-8",
    }
    assert ways(view(lane=3)) == {"executor-3"}
    assert ways(view(ordered=True)) == set()
    assert ways(view(), "other") == set()


@dataclass
class Pipe:
    """An edge, a lane per executor, executors of ``item_us`` per row that report, all in ticks of 10 ms."""

    steers: bool
    item_us: tuple[int, ...]
    ready_s: tuple[float, ...]
    rate: int
    now_us: int = T
    num_frames: int = 0
    spans: list[tuple[int, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.in_use = 1
        self.steering = Steering(lambda _model: NAMES[: self.in_use] if self.steers else ())
        self.forecast = Forecast(self.steering.spreads)
        self.queues: list[deque[int]] = [deque() for _ in NAMES]
        self.free_us = [T] * len(NAMES)
        self.taken = [0] * len(NAMES)
        self.newest = [0] * len(NAMES)

    def run(self, seconds: float) -> None:
        ticks, credit = round(seconds * 100), 0.0
        for tick in range(ticks):
            self.now_us += 10 * MS
            self.in_use = sum(self.now_us - T >= each * S for each in self.ready_s)
            credit += self.rate / 100
            rows, credit = int(credit), credit % 1
            self._send([self.now_us for _ in range(rows) if self._admits()])
            self._execute()
            for at in range(self.in_use):
                if (tick + 8 * at) % 25 == 0:
                    self._report(at)

    def _admits(self) -> bool:
        service = self.forecast.service("digits", "", self.now_us)
        if service is None:
            return True
        finish, wait = service.finish_us(5, np.zeros(1), np.ones(1), self.now_us)
        if wait[0] > 0 and finish[0] > self.now_us + 2 * S:
            self.spans.append((self.now_us, None))
            return False
        service.admitted(5, 1, 1, self.now_us)
        return True

    def _send(self, rows: list[int]) -> None:
        if rows:
            number = self.steering.number(self.num_frames, {"digits": len(rows)}, self.now_us)
            self.num_frames = number + 1
            at = lane_of_frame(NAMES[: self.in_use], number)
            self.queues[at].extend(rows)
            self.taken[at] += len(rows)
            self.newest[at] = self.now_us

    def _execute(self) -> None:
        for at, queue in enumerate(self.queues):
            while queue and self.free_us[at] < self.now_us:
                self.free_us[at] = max(self.free_us[at], queue[0]) + self.item_us[at]
                came = queue.popleft()
                self.spans.append((came, self.free_us[at] - came))

    def _report(self, at: int) -> None:
        load = VersionLoad(
            "digits", "v1.0.0", 0.0, float(self.item_us[at]), 32, True, 0.0, self.taken[at], 0,
            (0, 0, 0, 0, 0, len(self.queues[at])),
        )  # fmt: skip
        told = ExecutorLoad(NAMES[at], self.now_us, self.newest[at], 2, (load,))
        self.forecast.take(told, self.now_us)
        self.steering.take(told, self.now_us)

    def settled_s(self, limit_us: int = 500 * MS) -> float:
        """Seconds until the last row that was refused or took longer."""
        bad = [came for came, took in self.spans if took is None or took > limit_us]
        return round((max(bad, default=T) - T) / S, 2)


@pytest.mark.parametrize(
    ("item_us", "in_turn_s", "steered_s"),
    [
        ((5_000, 5_000, 5_000), 17.0, 14.5),
        ((6_000, 6_000, 6_000), 20.0, 18.5),
        ((6_000, 6_000, 8_400), 29.0, 22.0),  # the third is slow, as where processors are short
    ],
)
def test_after_a_step_the_load_is_carried_sooner(item_us: tuple[int, ...], in_turn_s: float, steered_s: float) -> None:
    """383 rows a second at once; the second executor is ready after 6 s, the third after 15 s."""
    in_turn, steered = [Pipe(steers, item_us, (0, 6, 15), 383) for steers in (False, True)]
    for each in (in_turn, steered):
        each.run(30)
    assert in_turn.settled_s() > in_turn_s
    assert steered.settled_s() < steered_s

"""Clocks that go wrong: told apart from late reading, from a backlog, and from the Monitor's own clock."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.clock_skew import Lags, SkewParams, Skews, hear, judge
from schemas.telemetry import Alert
from streams.canonical import from_json, to_json
from tests.support.control import HERE, SECOND

PARAMS = SkewParams()
NAMES = ("edge-0", "executor-0", "router-0", "validator-0")
MILLI = 1_000


class World:
    """Processes whose clocks are ahead of the Monitor's by so many milliseconds; each beats once a second."""

    def __init__(self, *names: str) -> None:
        self.state: Skews = {}
        self.second = 1_000
        self.ahead_ms = dict.fromkeys(names or NAMES, 0)
        self.delay_ms = 20
        self.alerts: list[Alert] = []

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second += 1
            now_us = self.second * SECOND
            for name, ahead_ms in self.ahead_ms.items():
                sent_us = now_us - self.delay_ms * MILLI + ahead_ms * MILLI
                self.state = hear(self.state, name, sent_us, now_us, HERE, PARAMS)
            self.tick()

    def tick(self) -> None:
        self.state, effects = judge(self.state, self.second * SECOND, PARAMS)
        self.alerts += [effect.record for effect in effects]

    @property
    def heads(self) -> list[tuple[str, bool]]:
        return [(each.subject, each.resolved) for each in self.alerts]


@pytest.mark.parametrize(
    ("ahead_ms", "message"),
    [
        (3_000, "The clock of executor-0 is 3 s ahead of the other processes'."),
        (-3_000, "The clock of executor-0 is 3 s behind the other processes'."),
    ],
)
def test_a_clock_that_is_off_is_alerted_once_and_resolved(ahead_ms: int, message: str) -> None:
    world = World()
    world.run(20)
    world.ahead_ms["executor-0"] = ahead_ms
    world.run(30)
    (raised,) = world.alerts
    assert (raised.kind, raised.subject, raised.severity, raised.message) == (
        *("clock_skew", "executor-0", "warning", message),
    )
    assert json.loads(raised.evidence)["ahead_ms"] == ahead_ms
    assert raised.causes == (HERE,)
    world.ahead_ms["executor-0"] = 0
    world.run(30)
    assert world.heads == [("executor-0", False), ("executor-0", True)]
    assert world.alerts[1].alert_id == raised.alert_id


def test_two_processes_are_held_against_the_monitors_clock() -> None:
    world = World("edge-0", "router-0")
    world.ahead_ms["edge-0"] = 5_000
    world.run(10)
    assert [each.message for each in world.alerts] == ["The clock of edge-0 is 4.98 s ahead of the Monitor's."]


def test_where_all_come_from_the_future_the_monitors_clock_is_behind() -> None:
    world = World()
    world.ahead_ms = dict.fromkeys(NAMES, 4_000)
    world.run(30)
    assert [(each.subject, each.message) for each in world.alerts] == [
        ("monitor", "The clock of monitor is 3.98 s behind the other processes'.")
    ]
    world.ahead_ms = dict.fromkeys(NAMES, 0)
    world.run(30)
    assert world.heads == [("monitor", False), ("monitor", True)]


def test_late_reading_is_no_skew() -> None:
    world = World()
    for second in range(120):
        world.delay_ms = 20 if second % 8 == 0 else 4_000
        world.run(1)
    assert world.alerts == []


def test_a_backlog_that_is_read_at_once_is_no_skew() -> None:
    world = World()
    for age_s in range(40, 0, -1):
        sent_us = (world.second - age_s) * SECOND
        world.state = hear(world.state, "edge-0", sent_us, world.second * SECOND, HERE, PARAMS)
    world.tick()
    world.run(60)
    assert world.alerts == []


def test_a_process_that_falls_silent_is_forgotten_and_its_alert_resolved() -> None:
    world = World()
    world.ahead_ms["edge-0"] = 9_000
    world.run(20)
    del world.ahead_ms["edge-0"]
    world.run(20)
    assert world.heads == [("edge-0", False), ("edge-0", True)]
    assert "edge-0" not in world.state


def test_idle_ticks_leave_the_state_the_same_object_and_it_comes_back_as_it_was() -> None:
    world = World()
    world.run(20)
    assert judge(world.state, world.second * SECOND, PARAMS)[0] is world.state
    assert all(from_json(Lags, to_json(each)) == each for each in world.state.values())
    assert max(len(each.lags) for each in world.state.values()) == 10


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-6_000, 6_000)), max_size=30))
def test_alerts_of_a_process_alternate(moves: list[tuple[str, int]]) -> None:
    world = World()
    for name, ahead_ms in moves:
        world.ahead_ms[name] = ahead_ms
        world.run(7)
    for name in (*NAMES, "monitor"):
        kinds = [each.resolved for each in world.alerts if each.subject == name]
        assert kinds == [bool(number % 2) for number in range(len(kinds))]

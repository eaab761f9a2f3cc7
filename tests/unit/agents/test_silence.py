"""Memory whose writer is silent: a warning at half of the bound, critical at it, both over when it is heard again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agents.monitor import Params, State, decide
from agents.presence import ProcessStatus
from agents.silence import KIND, Silence, judge
from schemas.telemetry import Alert, Heartbeat
from tests.support.control import HERE, SECOND, at, tick

BOUND_US = 100 * SECOND


def status(name: str, heard: int, sequence: int = 0) -> ProcessStatus:
    return ProcessStatus(name, 7, 1, heard * SECOND, sequence, (), 0, HERE)


class World:
    """The Monitor's part, with an Orchestrator that was heard last at second 100."""

    def __init__(self, *others: ProcessStatus) -> None:
        self.processes = {each.name: each for each in (status("orchestrator-0", 100, 41), *others)}
        self.told: Silence | None = None

    def at(self, second: int, *, listening: int = 0) -> list[tuple[str, str, bool]]:
        """Id, severity and whether it is resolved, of what is told at that second."""
        before = self.told
        times = listening * SECOND, second * SECOND, BOUND_US
        self.told, effects = judge(self.told, self.processes, *times)
        assert effects or self.told is before
        self.alerts: list[Alert] = [effect.record for effect in effects]
        assert all(each.kind == "memory_silent" and each.causes == (HERE,) for each in self.alerts)
        return [(each.alert_id, each.severity, each.resolved) for each in self.alerts]

    def hear(self, second: int) -> None:
        self.processes["orchestrator-0"] = replace(self.processes["orchestrator-0"], heard_us=second * SECOND)


WARNED = ("memory_silent/warning/100000000", "warning", False)
CRITICAL = ("memory_silent/critical/100000000", "critical", False)


def test_half_the_bound_and_the_bound_are_told_once_each_and_ended_together() -> None:
    world = World()
    assert world.at(149) == []
    assert world.at(150) == [WARNED]
    assert world.alerts[0].message == (
        "Nothing was heard of memory for 50 s: after 100 s Routers refuse every request."
    )
    assert world.at(199) == []
    assert world.at(200) == [CRITICAL]
    assert world.alerts[0].message == (
        "Nothing was heard of memory for 100 s: Routers refuse every request until something is."
    )
    assert json.loads(world.alerts[0].evidence) == {
        "heard_us": 100 * SECOND, "silent_us": 100 * SECOND, "bound_us": BOUND_US, "memory_sequence": 41,
    }  # fmt: skip
    assert world.at(900) == []
    world.hear(905)
    assert world.at(906) == [(*WARNED[:2], True), (*CRITICAL[:2], True)]
    assert world.at(907) == []
    assert world.at(960) == [("memory_silent/warning/905000000", "warning", False)]


def test_a_monitor_that_comes_late_tells_both_at_once() -> None:
    assert World().at(500) == [WARNED, CRITICAL]


def test_what_it_did_not_listen_to_was_not_silent() -> None:
    world = World()
    assert world.at(500, listening=460) == []
    assert world.at(510, listening=460) == [WARNED]
    assert world.at(560, listening=560) == []  # after a pause of its own the alert stands
    assert world.at(610, listening=560) == []
    assert world.at(660, listening=560) == [CRITICAL]


@pytest.mark.parametrize("other", ["orchestrator-1", "router-0"])
def test_another_orchestrator_is_a_sign_of_life_and_no_other_process_is(other: str) -> None:
    world = World(status(other, 190))
    assert world.at(200) == ([] if other == "orchestrator-1" else [WARNED, CRITICAL])


def test_where_no_orchestrator_was_ever_heard_nothing_is_said() -> None:
    world = World()
    world.processes = {"router-0": status("router-0", 1)}
    assert world.at(900) == []


def test_the_monitor_tells_of_it_by_its_own_bound_and_ends_it_with_the_next_heartbeat() -> None:
    params, state, told = Params(bound_us=20 * SECOND), State(), []
    for second in range(100, 160):
        events = [tick(second * SECOND)]
        if second == 100 or second >= 150:
            beat = Heartbeat("orchestrator", 0, 7, 1, second * SECOND, 41)
            events.insert(0, at(beat, second * SECOND))
        for event in events:
            state, effects = decide(state, event, params)
            alerts = [each.record for each in effects if each.topic == "control.alerts"]
            told += [(second, each.severity, each.resolved) for each in alerts if each.kind == KIND]
    assert told == [
        *((110, "warning", False), (120, "critical", False)),
        *((150, "warning", True), (150, "critical", True)),
    ]

"""A canary is judged by its own rows: one alert that names it, and no trace of it once it is over."""

from __future__ import annotations

import pytest

from agents import canary_watch, slo
from agents.canary_watch import Canaries, Trial
from agents.slo import Slos
from schemas.canary import Canary
from schemas.memory import MemoryEvent
from schemas.serving import Slo
from schemas.telemetry import Alert
from streams.agent import Effects
from streams.canonical import to_json
from tests.support.control import SECOND, at
from tests.unit.agents.test_slo import PARAMS, SLO, START_S, serving, told


class World:
    """The SLO parts of the Monitor with one model, second by second; v2.0.0 may be a canary."""

    def __init__(self) -> None:
        self.second = START_S
        self.slos: Slos = {}
        self.canaries: Canaries = {}
        self.alerts: list[Alert] = []
        self.learn(serving(SLO))

    def learn(self, change: MemoryEvent) -> None:
        before = self.slos
        slos, ended = slo.learn(before, change, at(change, self.second * SECOND), PARAMS)
        self.canaries, self.slos, freed = canary_watch.learn(self.canaries, before, slos, change, PARAMS)
        self.note((*ended, *freed))

    def share(self, percent: int, kind: str = "CanarySet", version: str = "v2.0.0") -> None:
        body, now_us = to_json(Canary("digits", version, percent)), self.second * SECOND
        self.learn(MemoryEvent(1, b"", "c", "cli", kind, "canary/digits", 1, body, "", (), now_us))

    def note(self, effects: Effects) -> None:
        self.alerts += [effect.record for effect in effects]

    def run(self, seconds: int, good: int = 0, bad: int = 0, late: int = 0) -> None:
        """So many rows of the canary a second, beside a thousand good ones of the active version."""
        for _ in range(seconds):
            self.second += 1
            now_us = self.second * SECOND
            for window in (told(self.second, 1_000), told(self.second, good, late, bad, "v2.0.0")):
                self.slos = slo.hear(self.slos, window, at(window, now_us), PARAMS)
                self.slos = canary_watch.without_left(self.canaries, self.slos, now_us, PARAMS)
            self.slos, burning = slo.judge(self.slos, now_us, PARAMS)
            self.canaries, tried = canary_watch.judge(self.canaries, self.slos, now_us, PARAMS)
            self.note((*burning, *tried))

    @property
    def heads(self) -> list[tuple[str, bool]]:
        return [(each.alert_id.rpartition("/")[0], each.resolved) for each in self.alerts]


BURNS = "slo_burn/digits/errors/canary"


def test_a_canary_with_few_rows_is_judged_by_them_and_named() -> None:
    world = World()
    world.run(100, good=5)
    assert world.alerts == []
    world.share(5)
    world.run(60, good=4, bad=1)
    (raised,) = world.alerts
    assert (raised.alert_id, raised.kind, raised.severity) == (f"{BURNS}/{raised.time_us}", "slo_burn", "critical")
    assert (raised.subject, raised.model, raised.version) == ("digits", "digits", "v2.0.0")
    assert "rows of digits v2.0.0 ended as ERROR or EXPIRED as a canary of 5 percent, 200 times what" in raised.message
    assert (raised.time_us // SECOND - START_S - 100) <= 30


def test_rows_before_the_trial_do_not_count() -> None:
    world = World()
    world.run(100, good=1, bad=1)  # asked for by name
    world.alerts.clear()
    world.share(5)
    world.run(60, good=5)
    assert [each for each in world.heads if each[0] == BURNS] == []


def test_it_is_resolved_when_it_keeps_the_slo_again() -> None:
    world = World()
    world.share(5)
    world.run(30, good=4, bad=1)
    world.run(300, good=5)
    assert world.heads == [(BURNS, False), (BURNS, True)]
    assert world.alerts[1].message == "The canary digits v2.0.0 keeps the SLO."


@pytest.mark.parametrize("kind", ["CanaryTakenBack", "CanaryPromoted"])
def test_it_is_resolved_when_the_trial_is_over(kind: str) -> None:
    world = World()
    world.share(5)
    world.run(30, good=4, bad=1)
    world.share(0, kind)
    assert world.heads == [(BURNS, False), (BURNS, True)]


@pytest.mark.parametrize("wanted", [None, Slo(0, 0, 2_000)])
def test_it_is_resolved_when_the_slo_is_another(wanted: Slo | None) -> None:
    world = World()
    world.share(5)
    world.run(30, good=4, bad=1)
    world.learn(serving(wanted))
    assert world.heads == [(BURNS, False), (BURNS, True)]
    assert world.canaries["digits"].raised == {}


def test_a_policy_with_the_same_slo_resolves_nothing() -> None:
    world = World()
    world.share(5)
    world.run(30, good=4, bad=1)
    world.learn(serving(SLO))
    assert world.heads == [(BURNS, False)]


def test_one_that_was_taken_back_leaves_its_rows_out_of_what_the_model_is_judged_by() -> None:
    world = World()
    world.share(50)
    world.run(5, bad=2)
    assert "v2.0.0" in world.slos["digits"].versions
    world.share(0, "CanaryTakenBack")
    assert "v2.0.0" not in world.slos["digits"].versions
    world.run(PARAMS.settle_us // SECOND - 1, bad=100)
    assert "v2.0.0" not in world.slos["digits"].versions
    assert world.heads == []
    world.run(2, good=1)
    assert "v2.0.0" in world.slos["digits"].versions
    assert world.canaries == {}


def test_a_raised_share_goes_on_with_the_same_windows() -> None:
    world = World()
    world.share(5)
    world.run(10, good=5)
    versions = world.slos["digits"].versions
    world.share(20)
    assert world.slos["digits"].versions == versions
    assert world.canaries == {"digits": Trial("v2.0.0", 20)}


def test_without_an_slo_nothing_is_judged_and_nothing_else_changes() -> None:
    world = World()
    world.learn(serving(None))
    world.share(5)
    world.run(60, bad=5)
    assert world.alerts == []
    assert canary_watch.judge(world.canaries, {}, 1, PARAMS) == (world.canaries, ())


def test_a_body_that_is_none_of_the_orchestrators_changes_nothing() -> None:
    change = MemoryEvent(1, b"", "c", "cli", "CanarySet", "canary/digits", 1, "{", "", (), 1)
    assert canary_watch.learn({}, {}, {}, change, PARAMS) == ({}, {}, ())

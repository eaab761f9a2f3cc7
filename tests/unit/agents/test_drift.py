"""Drift alerts: raised once with evidence, resolved when rows are as they were, never judged without rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.drift import Drifts, hear, judge, learn
from agents.drift_case import DriftParams, Evidence
from schemas.memory import MemoryEvent
from schemas.reference import Reference
from schemas.telemetry import Alert
from streams.agent import Effects
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion
from tests.support import drift
from tests.support.control import SECOND, at

PARAMS = DriftParams(min_rows=100)
REFERENCE = drift.reference()
START_S = 1_000_000


def change(key: str, body: Any) -> MemoryEvent:
    text = None if body is None else to_json(body)
    return MemoryEvent(1, b"", "c", "cli", "Set", key, 1, text, "", (), 1)


class World:
    """The drift part of the Monitor with one version, five seconds by five seconds."""

    def __init__(self, reference: Reference | None = REFERENCE, params: DriftParams = PARAMS) -> None:
        self.state, self.params = Drifts(), params
        self.second = START_S
        self.seed = 0
        self.alerts: list[Alert] = []
        self.change("active/digits", ActiveVersion("digits", "v1.0.0"))
        if reference is not None:
            self.change("reference/digits/v1.0.0", reference)

    def change(self, key: str, body: Any) -> None:
        made = change(key, body)
        self.state, effects = learn(self.state, made, at(made, self.second * SECOND), self.params)
        self.note(effects)

    def note(self, effects: Effects) -> None:
        for effect in effects:
            assert (effect.topic, effect.key) == ("control.alerts", b"digits")
            self.alerts.append(effect.record)

    def tell(self, inputs: Any, executor: str = "executor-0", ago_s: int = 0) -> None:
        told = drift.told(REFERENCE, inputs, (self.second - ago_s) * SECOND, executor)
        self.state, effects = hear(self.state, told, at(told, self.second * SECOND), self.params)
        self.note(effects)

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second += 1
            self.state, effects = judge(self.state, self.second * SECOND, self.params)
            self.note(effects)

    def run(self, windows: int, num_rows: int = 60, shift: float = 0.0) -> None:
        for _ in range(windows):
            self.seed += 1
            self.wait(5)
            self.tell(drift.rows(num_rows, self.seed, shift))

    @property
    def heads(self) -> list[tuple[str, bool]]:
        return [(each.kind, each.resolved) for each in self.alerts]


def test_rows_that_change_are_alerted_once_with_evidence_and_resolved() -> None:
    world = World()
    world.run(24)
    assert world.alerts == []
    world.run(30, shift=1.0)
    assert world.heads == [("drift", False)]
    (raised,) = world.alerts
    assert (raised.subject, raised.model, raised.version) == ("digits", "digits", "v1.0.0")
    assert raised.alert_id.startswith("drift/digits/v1.0.0/")
    told = "1 of 12 measures of digits v1.0.0 are not those of its reference: the PSI of x.mean is "
    assert raised.message.startswith(told)  # the mean of eight numbers is the first that shows it
    evidence = from_json(Evidence, raised.evidence)
    assert (evidence.num_reference_rows, evidence.seconds, evidence.threshold) == (1_000, 60, 0.2)
    assert evidence.num_rows == 3 * evidence.num_sampled >= 300
    assert (evidence.num_measures, evidence.num_drifting, len(evidence.worst)) == (12, 1, 8)
    assert evidence.worst[0].psi >= 0.2 > evidence.worst[1].psi >= evidence.worst[-1].psi
    assert evidence.worst[0].ks_p < 0.001
    world.run(30)
    assert world.heads == [("drift", False), ("drift", True)]
    assert world.alerts[1].alert_id == raised.alert_id
    assert world.alerts[1].message == "The rows of digits v1.0.0 are those of its reference again."
    assert from_json(Evidence, world.alerts[1].evidence).num_drifting == 0


def test_the_state_comes_back_from_its_snapshot() -> None:
    world = World()
    world.run(3, shift=1.5)
    assert world.alerts != []
    assert from_json(Drifts, to_json(world.state)) == world.state


def test_of_fewer_rows_than_asked_for_nothing_is_said() -> None:
    world = World()
    world.run(30, num_rows=7, shift=3.0)  # 84 in a minute
    assert world.alerts == []
    world.run(1, num_rows=60, shift=3.0)
    assert ("drift", False) in world.heads


def test_all_executors_count() -> None:
    world = World()
    for executor in ("executor-0", "executor-1"):
        world.tell(drift.rows(60, 5, 2.0), executor)
    assert world.alerts == []  # judged a moment ago, by the rows of one
    world.wait(5)
    world.tell(drift.rows(1, 5, 2.0))
    assert from_json(Evidence, world.alerts[0].evidence).num_sampled == 121


def test_bad_data_is_an_alert_of_its_own() -> None:
    world = World()
    for seed in range(10):
        inputs = drift.rows(60, seed)
        inputs[:6, 0] = np.nan
        world.wait(5)
        world.tell(inputs)
    assert world.heads == [("data_quality", False)]
    raised = world.alerts[0]
    assert raised.message.endswith("have bad data: 10 % missing and 0 % out of range in x[0].")
    assert raised.alert_id.startswith("data_quality/digits/v1.0.0/")
    world.run(20)
    assert world.heads[1:] == [("data_quality", True)]
    assert world.alerts[1].message == "The data of digits v1.0.0 is sound again."


def test_an_alert_stands_while_there_are_no_rows_and_ends_after_long() -> None:
    world = World()
    world.run(10, shift=2.0)
    raised = len(world.alerts)
    world.wait(599)
    assert len(world.alerts) == raised
    world.wait(1)
    assert all(each.resolved for each in world.alerts[raised:])
    assert {each.alert_id for each in world.alerts[:raised]} == {each.alert_id for each in world.alerts[raised:]}
    assert world.alerts[-1].message == "digits v1.0.0 got no row for 600 s."


def test_an_alert_of_a_version_that_serves_no_more_ends_a_window_after_its_last_row() -> None:
    world = World()
    world.run(10, shift=2.0)
    raised = len(world.alerts)
    world.change("active/digits", ActiveVersion("digits", "v2.0.0"))
    world.wait(59)
    assert len(world.alerts) == raised
    world.wait(1)
    assert [each.resolved for each in world.alerts[raised:]] == [True] * raised


def test_another_reference_ends_the_alerts_and_counts_of_the_old_one_are_void() -> None:
    world = World()
    world.run(10, shift=2.0)
    raised = len(world.alerts)
    world.change("reference/digits/v1.0.0", replace(REFERENCE, source="another"))
    assert [(each.resolved, each.message) for each in world.alerts[raised:]] == (
        [(True, "digits v1.0.0 has another reference.")] * raised
    )
    before = world.state
    world.tell(drift.rows(500, 1, 3.0))  # counted by the old one
    assert world.state == before
    world.change("reference/digits/v1.0.0", None)
    assert world.state.versions == {}


def test_the_same_reference_again_changes_nothing_that_stands() -> None:
    world = World()
    world.change("reference/digits/v1.0.0", None)
    assert world.alerts == []


def test_counts_of_an_unknown_version_or_of_other_bins_change_nothing() -> None:
    world = World()
    told = drift.told(REFERENCE, drift.rows(500, 1, 3.0), START_S * SECOND)
    for wrong in (
        replace(told, model="nobody"),
        replace(told, measures=told.measures[:-1]),
        replace(told, measures=(replace(told.measures[0], bins=(1, 2)), *told.measures[1:])),
        replace(told, measures=(replace(told.measures[0], bins=(-9,) * 10), *told.measures[1:])),
        replace(told, measures=(replace(told.measures[0], num_missing=-1), *told.measures[1:])),
    ):
        assert hear(world.state, wrong, at(wrong, START_S * SECOND), PARAMS) == (world.state, ())


def test_what_is_no_reference_changes_nothing() -> None:
    world = World(None)
    before = world.state
    world.state, effects = learn(
        before, replace(change("reference/digits/v1.0.0", None), body="{}"), at(None, SECOND), PARAMS
    )
    assert (world.state, effects) == (before, ())


def test_old_windows_count_no_more() -> None:
    world = World()
    world.tell(drift.rows(500, 1, 3.0), ago_s=90)
    assert world.alerts == []
    assert world.state.versions["digits/v1.0.0"].slots == ()


def test_a_tick_without_alerts_leaves_the_state_the_same_object() -> None:
    world = World()
    world.run(3)
    assert judge(world.state, (world.second + 10_000) * SECOND, PARAMS)[0] is world.state


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 130), st.sampled_from([0.0, 0.3, 2.0]), st.integers(0, 90)), max_size=25))
def test_alerts_alternate_and_each_end_names_its_beginning(steps: list[tuple[int, float, int]]) -> None:
    world = World()
    for num_rows, shift, pause in steps:
        world.wait(pause)
        world.run(1, num_rows, shift)
    for kind in ("drift", "data_quality"):
        mine = [each for each in world.alerts if each.kind == kind]
        assert [each.resolved for each in mine] == [bool(at % 2) for at in range(len(mine))]
        for raised, resolved in zip(mine[::2], mine[1::2], strict=False):
            assert raised.alert_id == resolved.alert_id
        assert all(json.loads(each.evidence)["version"] == "v1.0.0" for each in mine)


def test_rows_that_the_cache_answered_weigh_as_much_as_there_are_of_them() -> None:
    """A few odd rows that ran are no drift where nine in ten are answered by the cache, and the other way round."""
    usual, odd = drift.rows(200, 1), drift.rows(200, 2, shift=3.0)
    for shifted, expected in ((odd, False), (usual, True)):
        world = World(params=replace(PARAMS, psi=1.0))
        ran = replace(drift.told(REFERENCE, shifted, world.second * SECOND), num_rows=200)
        others = usual if shifted is odd else odd
        cached = replace(drift.told(REFERENCE, others, world.second * SECOND, "router-0"), num_rows=20_000)
        for told in (ran, cached):
            world.state, effects = hear(world.state, told, at(told, world.second * SECOND), PARAMS)
            world.note(effects)
        total = world.state.versions["digits/v1.0.0"].total
        assert (total.num_rows, total.num_sampled) == (20_200, 202)
        world.alerts.clear()
        watched = replace(world.state.versions["digits/v1.0.0"], drift_us=0, judged_us=0)
        state = replace(world.state, versions={"digits/v1.0.0": watched})
        world.second += 1
        empty = drift.told(REFERENCE, usual[:1], world.second * SECOND)
        _, effects = hear(state, empty, at(empty, world.second * SECOND), PARAMS)
        world.note(effects)
        assert bool([each for each in world.alerts if each.kind == "drift"]) is expected

"""Slow trends: what hours come to, told when it reaches a level and when it is gone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.trends import Expression, TrendParams, Trends, hear, learn
from schemas.memory import MemoryEvent
from schemas.review import ContextSignal
from streams.canonical import from_json, to_json
from tests.support import drift
from tests.support.control import SECOND

PARAMS = TrendParams()
REFERENCE = drift.reference()
START_S = 1_000_000


def change(body: Any) -> MemoryEvent:
    text = None if body is None else to_json(body)
    return MemoryEvent(1, b"", "c", "cli", "ReferenceSet", "reference/digits/v1.0.0", 1, text, "", (), 1)


class World:
    """The trends of one version, minute by minute."""

    def __init__(self) -> None:
        self.state: Trends = learn({}, change(REFERENCE))
        self.second = START_S
        self.signals: list[ContextSignal] = []

    def run(self, minutes: int, inputs: Any) -> None:
        for _ in range(minutes):
            self.second += 60
            told = drift.told(REFERENCE, inputs, self.second * SECOND)
            told = replace(told, window_start_us=told.window_start_us - 55 * SECOND, window_us=60 * SECOND)
            self.state, signals = hear(self.state, told, self.second * SECOND, PARAMS)
            self.signals += signals

    def said(self) -> list[tuple[str, int]]:
        found = [from_json(Expression, each.expression) for each in self.signals]
        return [(each.figure, each.num_measures) for each in found]

    def shift(self, place: int = 0) -> int:
        return self.state["digits/v1.0.0"].measures[place].mean_shift


def test_rows_as_they_were_say_nothing_for_hours() -> None:
    world = World()
    world.run(400, drift.rows(400, 3))
    assert world.signals == []


def test_a_shift_is_told_when_hours_show_it_and_when_it_is_gone() -> None:
    world = World()
    moved = drift.rows(400, 4)
    moved[:, 2] += 1.0
    before = moved[:, 2].mean() / REFERENCE.measures[2].deviation - REFERENCE.measures[2].mean
    world.run(30, moved)
    assert world.said() == []
    assert world.shift(2) == pytest.approx(1e6 * before * (1 - math.exp(-0.5)), rel=0.03)
    world.run(60, moved)
    assert world.said() == [("mean_shift", 1), ("mean_shift", 2)]  # the row's mean is a measure, too
    first = world.signals[0]
    assert (first.signal_id, first.kind, first.subject) == ("trend/digits/v1.0.0/mean_shift", "trend", "model/digits")
    said = from_json(Expression, first.expression)
    assert (said.model, said.version, said.level) == ("digits", "v1.0.0", 500_000)
    assert said.worst[0].millionths >= said.level
    world.run(600, drift.rows(400, 3))
    assert world.said()[2:] == [("mean_shift", 0)]


def test_missing_values_and_values_out_of_range_are_trends_of_their_own() -> None:
    world = World()
    inputs = drift.rows(400, 5)
    inputs[:40, 1] = np.nan
    inputs[:80, 6] = 99
    world.run(240, inputs)
    said = world.said()
    assert ("missing", 1) in said
    assert [figure for figure, _ in said].count("out_of_range") >= 1


def test_executors_of_one_slot_are_one_step() -> None:
    one, two = World(), World()
    rows = drift.rows(400, 6, shift=0.5)
    one.run(20, rows)
    for minute in range(1, 21):
        for part in (rows[:200], rows[200:]):
            end_us = (START_S + 60 * minute) * SECOND
            told = replace(
                drift.told(REFERENCE, part, end_us), window_start_us=end_us - 60 * SECOND, window_us=60 * SECOND
            )
            two.state, _ = hear(two.state, told, end_us, PARAMS)
    assert two.shift() == pytest.approx(one.shift(), rel=0.15)


def test_a_few_rows_are_waited_for() -> None:
    world = World()
    world.run(3, drift.rows(9, 7, shift=9.0))
    assert world.shift() == 0
    world.run(1, drift.rows(9, 7, shift=9.0))
    assert world.shift() > 0


def test_another_reference_begins_anew_and_none_forgets() -> None:
    world = World()
    world.run(60, drift.rows(400, 4, shift=2.0))
    assert world.shift() > 0
    state = learn(world.state, change(replace(REFERENCE, source="another")))
    assert state["digits/v1.0.0"].measures[0].mean_shift == 0
    old = drift.told(REFERENCE, drift.rows(400), world.second * SECOND)
    assert hear(state, old, world.second * SECOND, PARAMS) == (state, ())
    assert learn(state, change(None)) == {}
    wrong = drift.told(REFERENCE, drift.rows(400), world.second * SECOND)
    wrong = replace(wrong, measures=(replace(wrong.measures[0], num_above=-1), *wrong.measures[1:]))
    assert hear(world.state, wrong, world.second * SECOND, PARAMS) == (world.state, ())


def test_the_state_comes_back_from_its_snapshot() -> None:
    world = World()
    world.run(3, drift.rows(400, 4, shift=2.0))
    trend = world.state["digits/v1.0.0"]
    assert from_json(type(trend), to_json(trend)) == trend


def test_other_memory_and_what_is_no_reference_change_nothing() -> None:
    state = learn({}, change(REFERENCE))
    assert learn(state, replace(change(None), key="active/digits")) is state
    assert learn(state, replace(change(None), body="{}")) is state

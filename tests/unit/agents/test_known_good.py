"""When a version has proved itself: rows, time, no alert, fresh news; asked for once per activation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.known_good import (
    GoodParams,
    Goods,
    Proving,
    active_version,
    hear,
    is_served_otherwise,
    judge,
    learn,
)
from schemas.cache import CachePolicy
from schemas.known_good import Configuration, GoodVersion, KnownGood
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import Plan, VersionWeight
from schemas.serving import ServingPolicy, Slo
from schemas.telemetry import ModelWindow, Telemetry
from streams.canonical import digest, from_json, to_json
from streams.memory_view import ActiveVersion
from tests.support.control import HERE, SECOND, at

PARAMS = GoodParams(min_rows=100, min_us=10 * SECOND, loading_us=0)
START_S = 1_000
NOBODY: frozenset[str] = frozenset()


def change(kind: str, key: str, body: object, second: int) -> MemoryEvent:
    return MemoryEvent(1, b"", "c", "cli", kind, key, 1, to_json(body), "", (), second * SECOND)


class World:
    """The Monitor's part with one model, second by second."""

    def __init__(self) -> None:
        self.state: Goods = {}
        self.second = START_S
        self.commands: list[MemoryCommand] = []
        self.activate("v1.0.0")

    def activate(self, version: str) -> None:
        self.state = learn(
            self.state, change("VersionActivated", "active/digits", ActiveVersion("digits", version), self.second)
        )

    def run(self, seconds: int, ok: int = 0, bad: int = 0, *, version: str = "v1.0.0", troubled: bool = False) -> None:
        for _ in range(seconds):
            self.second += 1
            if ok or bad:
                part = ModelWindow("digits", version, ok + bad, ok, bad, 0, 0, 0, 0)
                window = Telemetry("validator", 0, (self.second - 1) * SECOND, SECOND, 1, 0, (part,))
                self.state = hear(self.state, window, at(window, self.second * SECOND), PARAMS)
            alerted = frozenset({"digits"}) if troubled else NOBODY
            self.state, made = judge(self.state, alerted, self.second * SECOND, PARAMS)
            self.commands += made

    def note(self) -> None:
        """Memory says what was asked for."""
        body = from_json(KnownGood, self.commands[-1].body)
        self.state = learn(self.state, change("VersionMarkedGood", "good/digits", body, self.second))


def test_rows_and_time_without_trouble_prove_a_version_once() -> None:
    world = World()
    plan = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000)
    world.state = learn(world.state, change("PlanMadeEffective", "plan/digits", plan, START_S))
    world.run(9, ok=20)
    assert world.commands == []
    world.run(1, ok=20)
    (asked,) = world.commands
    times = START_S * SECOND, (START_S + 10) * SECOND
    entry = GoodVersion("v1.0.0", digest(plan).hex(), *times, 200, Configuration())
    assert (asked.agent, asked.kind, asked.key) == ("monitor", "MarkVersionGood", "good/digits")
    assert from_json(KnownGood, asked.body) == KnownGood("digits", (entry,))
    assert asked.reason == "digits v1.0.0 served 200 rows over 10 s, 0 of them badly"
    assert asked.causes == (HERE,)
    world.run(9, ok=20)
    assert len(world.commands) == 1
    world.run(1, ok=20)
    assert len(world.commands) == 2  # nobody answered
    world.note()
    world.run(60, ok=20)
    assert len(world.commands) == 2
    world.activate("v2.0.0")
    world.activate("v1.0.0")
    world.run(11, ok=20)
    assert len(world.commands) == 3  # active anew, it proves itself anew


@pytest.mark.parametrize(
    ("ok", "bad", "seconds"),
    [(9, 0, 11), (94, 6, 60), (0, 0, 60)],
    ids=["too few rows", "too many bad ones", "none"],
)
def test_what_proves_nothing(ok: int, bad: int, seconds: int) -> None:
    world = World()
    world.run(seconds, ok, bad)
    assert world.commands == []


def test_a_few_bad_rows_are_no_shame() -> None:
    world = World()
    world.run(10, ok=95, bad=5)
    assert len(world.commands) == 1


def test_an_alert_makes_the_count_begin_anew() -> None:
    world = World()
    world.run(9, ok=20)
    world.run(3, ok=20, troubled=True)
    assert world.state["digits"] == Proving("v1.0.0", START_S * SECOND, served=Configuration())
    world.run(9, ok=20)
    assert world.commands == []
    world.run(1, ok=20)
    assert len(world.commands) == 1


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("serving/digits", ServingPolicy("digits", hedge=True)),
        ("serving/digits", ServingPolicy("digits", max_attempts=1)),
        ("cache/digits", CachePolicy("digits", True, 1, 60)),
    ],
)
def test_what_is_served_otherwise_proves_itself_anew(key: str, body: object) -> None:
    world = World()
    world.run(10, ok=20)
    world.note()
    before, event = world.state, change("Set", key, body, world.second)
    world.state = learn(world.state, event)
    assert is_served_otherwise(before, world.state, event)
    assert not is_served_otherwise(world.state, world.state, event)
    assert not world.state["digits"].is_marked
    world.run(9, ok=20)
    assert len(world.commands) == 1
    world.run(1, ok=20)
    (entry,) = from_json(KnownGood, world.commands[-1].body).versions
    assert entry.since_us == (START_S + 10) * SECOND
    told = entry.configuration
    assert told is not None
    assert body in (told.serving, told.cache)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("serving/digits", ServingPolicy("digits", slo=Slo(error_ppm=1_000), auto_rollback=False)),
        ("cache/digits", CachePolicy("digits", False, 7, 60)),
    ],
)
def test_another_promise_or_a_flush_changes_no_proof(key: str, body: object) -> None:
    world = World()
    world.run(10, ok=20)
    world.note()
    world.state = learn(world.state, change("Set", key, body, world.second))
    assert world.state["digits"].is_marked
    world.run(20, ok=20)
    assert len(world.commands) == 1


def test_of_what_was_set_before_this_release_nothing_is_told() -> None:
    """The Monitor's state of an earlier release says nothing of policies, and those may have been set."""
    world = World()
    world.state = {"digits": Proving("v1.0.0", START_S * SECOND)}
    world.state = learn(world.state, change("Set", "cache/digits", CachePolicy("digits", True, 1, 60), START_S))
    world.run(10, ok=20)
    (entry,) = from_json(KnownGood, world.commands[-1].body).versions
    assert entry.configuration is None


def test_old_news_prove_nothing() -> None:
    world = World()
    world.run(9, ok=20)
    world.state, made = judge(world.state, NOBODY, (START_S + 60) * SECOND, PARAMS)
    assert made == ()


def test_rows_of_other_versions_stages_and_times_before_do_not_count() -> None:
    world = World()
    world.run(20, ok=20, version="v2.0.0")
    part = ModelWindow("digits", "v1.0.0", 50, 50, 0, 0, 0, 0, 0)
    for stage, second in (("executor", world.second), ("validator", START_S - 5)):
        window = Telemetry(stage, 0, second * SECOND, SECOND, 1, 0, (part,))
        assert hear(world.state, window, at(window, world.second * SECOND), PARAMS) is world.state
    assert judge(world.state, NOBODY, world.second * SECOND, PARAMS)[0] is world.state


def test_the_first_seconds_prove_nothing() -> None:
    world = World()
    params = replace(PARAMS, loading_us=5 * SECOND)
    part = ModelWindow("digits", "v1.0.0", 50, 50, 0, 0, 0, 0, 0)
    for after_s, counts in ((0, False), (4, False), (5, True)):
        window = Telemetry("validator", 0, (START_S + after_s) * SECOND, SECOND, 1, 0, (part,))
        heard = hear(world.state, window, at(window, (START_S + after_s + 1) * SECOND), params)
        assert (heard is not world.state) == counts


def test_what_memory_cannot_say_changes_nothing() -> None:
    world = World()
    for key in ("active/digits", "plan/digits", "good/digits"):
        garbage = MemoryEvent(1, b"", "c", "cli", "?", key, 1, "[]", "", (), 1)
        assert learn(world.state, garbage) is world.state
    assert active_version(world.state, "digits") == "v1.0.0"
    assert active_version(world.state, "other") == ""


def test_a_model_of_an_older_release_is_known_by_its_plan() -> None:
    plan = Plan("digits", (VersionWeight("v3.0.0", 100),), 64, 30_000)
    state = learn({}, change("PlanMadeEffective", "plan/digits", plan, 7))
    assert state == {"digits": Proving("v3.0.0", 7 * SECOND, digest(plan).hex())}


def test_what_was_good_before_it_became_active_again_is_not_marked() -> None:
    world = World()
    old = KnownGood("digits", (GoodVersion("v1.0.0", "", (START_S - 1) * SECOND, START_S * SECOND, 9),))
    world.state = learn(world.state, change("VersionMarkedGood", "good/digits", old, world.second))
    assert not world.state["digits"].is_marked


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.booleans()), max_size=60))
def test_nothing_is_asked_for_without_enough_rows_over_enough_time(seconds: list[tuple[int, int, bool]]) -> None:
    world = World()
    since_s, rows = START_S, 0
    for ok, bad, troubled in seconds:
        before = len(world.commands)
        world.run(1, ok, bad, troubled=troubled)
        if troubled:
            since_s, rows = world.second, 0
        else:
            rows += ok + bad
        if len(world.commands) > before:
            assert rows >= PARAMS.min_rows
            assert world.second - since_s >= 10
    assert from_json(Proving, to_json(world.state["digits"])) == world.state["digits"]

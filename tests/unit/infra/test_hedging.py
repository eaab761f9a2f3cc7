"""Hedging in the Router's process: wanted while a plan says so, and who has no second lane is told of once."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from infra.hedging import ADMITTED, STAGE, HedgeWindow, router_news, wanted
from infra.monitor_view import HEDGE_STAGE
from schemas.plan import SLOW
from streams.columns import HEDGE
from streams.connection import Connection
from streams.frame_effects import SendFrame
from streams.topics import full_name
from tests.support.frames import MODEL, frame, memory, plan, row
from tests.support.shadowed import shadowed

OTHER = replace(MODEL, model="other")
PLAIN = memory(MODEL, OTHER, plan("digits", ("v1.0.0", 100)), plan("other", ("v1.0.0", 100), lane=SLOW))
HEDGED = memory(
    MODEL,
    OTHER,
    replace(plan("digits", ("v1.0.0", 100)), hedge=True),
    replace(plan("other", ("v1.0.0", 100), lane=SLOW), hedge=True),
    sequence=41,
)


def test_it_is_wanted_while_a_plan_hedges() -> None:
    source = SimpleNamespace(view=PLAIN)
    some = wanted(source, 2, 0)
    assert not some()
    source.view = HEDGED
    assert some()
    source.view = PLAIN
    assert not some()


def test_it_is_wanted_while_a_plan_shadows() -> None:
    assert wanted(SimpleNamespace(view=shadowed(10)), 2, 0)()


def test_a_model_without_a_second_lane_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    some = wanted(SimpleNamespace(view=HEDGED), 3, 1)
    assert some()
    assert some()
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["other"]


def test_runs_of_admitted_frames_hear_and_those_of_retries_do_not() -> None:
    ready = SimpleNamespace(is_set=lambda: True)
    held = {
        (topic, 0): SimpleNamespace(topic=full_name(topic), partition=0, ready=ready, num_runs=1)
        for topic in (ADMITTED, "inference.retries")
    }
    given: Any = SimpleNamespace(held=held)
    codec: Any = None
    news = router_news(Connection("nowhere:1"), codec, None, given, SimpleNamespace(view=HEDGED), 2, 0)
    assert [each.topic for each, _ in news._runs().values()] == [full_name(ADMITTED)]


def test_copies_are_told_by_version_and_windows_without_any_while_a_plan_hedges() -> None:
    source = SimpleNamespace(view=PLAIN)
    window = HedgeWindow(source)
    made = frame([row(at, version=f"v{1 + at % 2}.0.0") for at in range(3)])
    copies = SendFrame("inference.routed", 1, replace(made, roles=bytes([HEDGE]) * 3))
    window.add(SendFrame("inference.routed", 0, made))
    assert window.close(2) is None
    for _ in range(2):
        window.add(copies)
    told = window.close(2)
    assert told is not None
    assert (told.stage, told.instance, told.num_frames) == (STAGE, 2, 2)
    assert [(each.model, each.version, each.num_rows) for each in told.models] == [
        ("digits", "v1.0.0", 4), ("digits", "v2.0.0", 2),
    ]  # fmt: skip
    assert window.close(2) is None
    source.view = HEDGED
    empty = window.close(2)
    assert empty is not None
    assert (empty.num_frames, empty.models) == (0, ())
    assert empty.window_start_us >= told.window_start_us + told.window_us
    assert STAGE == HEDGE_STAGE, "what is told is what `isos status` shows"

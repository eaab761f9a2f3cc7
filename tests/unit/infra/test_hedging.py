"""Hedging in the Router's process: wanted while a plan says so, and who has no second lane is told of once."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from infra.hedging import ADMITTED, router_news, wanted
from schemas.plan import SLOW
from streams.connection import Connection
from streams.topics import full_name
from tests.support.frames import MODEL, memory, plan

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

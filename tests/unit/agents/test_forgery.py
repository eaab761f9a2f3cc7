"""Forged values: a stage's alert stands from the first to the last of them."""

from __future__ import annotations

from agents.forgery import Forgeries, Forgery, gone, note
from schemas.telemetry import Telemetry
from tests.support.control import HERE, SECOND, at

QUIET_US = 60 * SECOND


def window(start_s: int, num_forged: int, stage: str = "router") -> Telemetry:
    return Telemetry(stage, 0, start_s * SECOND, SECOND, 1, 0, (), num_cache_forged=num_forged)


def noted(met: Forgeries, given: Telemetry, now_s: int) -> tuple[Forgeries, list[bool]]:
    met, effects = note(met, given, at(given, now_s * SECOND))
    return met, [effect.record.resolved for effect in effects]


def test_stages_are_alerted_by_themselves_once_each() -> None:
    met, raised = noted({}, window(1, 2), 2)
    assert raised == [False]
    met, raised = noted(met, window(2, 3), 3)
    assert raised == []
    met, raised = noted(met, window(2, 1, "edge"), 3)
    assert raised == [False]
    assert met["router-0"] == Forgery(f"cache_forged/router-0/{SECOND}", 5, 3 * SECOND, HERE)


def test_a_window_without_any_changes_nothing() -> None:
    met: Forgeries = {}
    assert note(met, window(1, 0), at(None, SECOND)) == (met, ())


def test_only_stages_that_are_quiet_for_long_are_resolved() -> None:
    met, _ = noted({}, window(1, 1), 2)
    met, _ = noted(met, window(30, 1, "edge"), 31)
    assert gone(met, 61 * SECOND, QUIET_US) == (met, ())
    left, (resolved,) = gone(met, 62 * SECOND, QUIET_US)
    assert list(left) == ["edge-0"]
    assert (resolved.record.resolved, resolved.record.subject) == (True, "router-0")

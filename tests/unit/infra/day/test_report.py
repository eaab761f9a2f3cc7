"""The day's verdict: what its timeline must have, and in which order."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from infra.day.report import MUST, flow_figures, missing, show_timeline
from infra.day.traffic import Flow
from infra.timeline import Line

WHOLE = (
    Line(1, "planner", "PlanMadeEffective", "plan/digits", "digits has no plan yet: v1.0.0 is active", "", 0),
    Line(2, "ana", "asks for a review", "ActivateVersion active/digits", "r9", "", 0),
    Line(3, "cli", "ReviewApproved", "review/r9", "approved by ben", "", 0),
    Line(4, "planner", "PlanMadeEffective", "plan/digits", "digits has another plan: v1.1.0 is active", "", 0),
    Line(5, "scaler", "scale_up 1 -> 2", "executors", "more rows", "", 0),
    Line(6, "scaler", "scale_down 2 -> 1", "executors", "fewer rows", "", 0),
    Line(7, "monitor", "alert: drift (warning)", "digits v1.1.0", "rows differ", "", 0),
    Line(8, "validator", "check drift failed", "digits v1.1.0", "rows differ", "", 0),
    Line(9, "cli", "VersionRolledBack", "active/digits", "back", "", 0),
    Line(10, "monitor", "alert resolved: drift", "digits v1.1.0", "over", "", 0),
    Line(11, "monitor", "IncidentRaised", "incident/process_silent/edge-0/1", "silent", "", 0),
    Line(12, "monitor", "IncidentResolved", "incident/process_silent/edge-0/1", "heard", "", 0),
)


def test_a_whole_day_lacks_nothing() -> None:
    assert missing(WHOLE) == ()


@pytest.mark.parametrize("number", range(len(WHOLE)))
def test_whatever_is_left_out_is_named(number: int) -> None:
    assert MUST[number].name in missing(WHOLE[:number] + WHOLE[number + 1 :])


def test_what_came_too_early_does_not_count() -> None:
    swapped = (*WHOLE[:4], WHOLE[5], WHOLE[4], *WHOLE[6:])
    assert missing(swapped) == ("executors were taken away",)


def test_a_flow_tells_what_was_answered_by_whom() -> None:
    flow = Flow("digits", lambda number: {}, sent=3, ok=Counter({"v1.0.0": 2}), failed=Counter({"expired": 1}))
    flow.latencies = [(1, 10.0), (2, 30.0)]
    figures = flow_figures(flow)
    assert (figures["sent"], figures["ok"], figures["failed"], figures["p50_ms"]) == (3, 2, {"expired": 1}, 20.0)


def test_the_timeline_shows_reasons_as_they_are_and_leaves_out_what_is_quiet() -> None:
    shown_to = io.StringIO()
    console = Console(width=200, file=shown_to)
    quiet = Line(2_000_000, "scaler", "hold 1 -> 1", "executors", "nothing", "", 0, is_quiet=True)
    show_timeline(console, [Line(1_000_000, "cli", "Told", "x", "a [bold]b", "", 0), quiet])
    shown = shown_to.getvalue()
    assert "a [bold]b" in shown
    assert "hold" not in shown

"""What the day's chapters wait for in the log."""

from __future__ import annotations

from infra.day.story import done, failed_checks, said
from infra.timeline import Line


def line(who: str, what: str, subject: str = "executors", time_us: int = 10) -> Line:
    return Line(time_us, who, what, subject, "", "", 0)


def test_lines_are_found_by_how_they_begin_and_what_they_are_about_from_a_time_on() -> None:
    lines = [line("monitor", "alert: drift (warning)", "digits v1.0.0", 5), line("monitor", "alert: drift", "other", 9)]
    assert said(lines, "alert: drift", "digits") == lines[:1]
    assert said(lines, "alert: drift", after_us=6) == lines[1:]
    assert said(lines, "alert resolved: drift") == []


def test_only_confirmed_steps_count() -> None:
    lines = [
        line("scaler", "scale_up 1 -> 2"),
        line("supervisor", "2 replicas, failed"),
        line("supervisor", "2 replicas, done", time_us=20),
        line("supervisor", "1 replicas, done", time_us=30),
    ]
    assert done(lines, 0, lambda replicas: replicas > 1) == lines[2:3]
    assert done(lines, 21, lambda replicas: replicas > 1) == []
    assert done(lines, 0, lambda replicas: replicas == 1) == lines[3:]


def test_checks_that_passed_or_could_not_be_run_did_not_fail() -> None:
    lines = [line("validator", f"check drift {outcome}") for outcome in ("passed", "failed", "not_run")]
    assert failed_checks(lines, 0) == lines[1:2]

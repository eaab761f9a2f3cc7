"""What may run beside what: nothing, but for rows that are more urgent than a long batch, one batch at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from executors.run import Run
from executors.running import Running

VERSION = ("m", "v1.0.0")


def run_of(priority: int, *, reentrant: bool = True) -> Run:
    session: Any = SimpleNamespace(reentrant=reentrant)
    slices: Any = [SimpleNamespace(priority=priority), SimpleNamespace(priority=9)]
    return Run(session, VERSION, slices, 2, 5_000.0)


def test_only_rows_more_urgent_than_a_long_batch_run_beside_it_one_batch_a_time() -> None:
    running, first, second = Running(), run_of(5), run_of(2)
    assert not running
    running.begin(first)
    assert (VERSION in running, list(running), running.below(VERSION)) == (True, [VERSION], 0)  # not long yet
    running.let_pass(first)
    assert running.below(VERSION) == 5
    running.begin(second)
    running.let_pass(second)
    assert running.below(VERSION) == 0
    running.end(second)
    assert running.below(VERSION) == 5
    running.end(first)
    assert not running
    assert running.below(VERSION) == 0


def test_what_outlives_the_batch_that_it_passed_is_not_passed() -> None:
    running, first, second = Running(), run_of(5), run_of(2)
    for run in (first, second):
        running.begin(run)
        running.let_pass(run)
    running.end(first)
    assert VERSION in running
    assert running.below(VERSION) == 0
    running.end(second)
    assert VERSION not in running


def test_nothing_runs_beside_a_batch_whose_session_can_run_one_at_a_time() -> None:
    running, only = Running(), run_of(5, reentrant=False)
    running.begin(only)
    running.let_pass(only)
    assert running.below(VERSION) == 0

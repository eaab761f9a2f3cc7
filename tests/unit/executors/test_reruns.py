"""What runs again: halves in order, a row after its pause, and which versions run nothing else meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from executors.reruns import Reruns
from executors.row_slice import RowSlice
from executors.run import Run
from executors.running import Running
from executors.session import ExecutionError
from tests.support.frames import T

VERSION = ("m", "v1.0.0")
HARD = ExecutionError("execution_failed", "poisoned")
PASSING = ExecutionError("execution_failed", "no memory", transient=True)


class Paused:
    """Pauses of which the test says when they are over; ``is_full``: no more are granted."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.is_full = False
        self.is_over = False

    def pause(self, run: Run, model: str, time_us: float, deadline_us: int) -> bool:
        assert (model, time_us, deadline_us) == (run.version[0], run.time_us, run.slices[0].deadlines_us[0])
        if not self.is_full:
            self.runs.append(run)
        return not self.is_full

    def due(self) -> list[Run]:
        runs, self.runs = (self.runs, []) if self.is_over else ([], self.runs)
        return runs

    def clear(self) -> None:
        self.runs = []


class Bench:
    """Reruns with pauses and failures under the test's hands."""

    def __init__(self, *ordered: str) -> None:
        self.paused: Any = Paused()
        self.over: list[tuple[list[int], str]] = []
        failed: Any = SimpleNamespace(finish=lambda run, error: self.over.append((rows_of(run), error.problem)))
        self.reruns = Reruns(self.paused, failed, lambda _sequence: frozenset(ordered))

    def next(self, *running: tuple[str, str], max_time_us: float = inf) -> list[int] | None:
        """The rows of the next batch."""
        under_way = Running()
        for version in running:
            under_way.begin(run_of([0], version))
        run = self.reruns.next(under_way, max_time_us)
        return None if run is None else rows_of(run)


def run_of(rows: Sequence[int], version: tuple[str, str] = VERSION, *, is_second: bool = False) -> Run:
    """A batch of a slice for every row; rows take 100 us each."""
    work: Any = SimpleNamespace(frame=SimpleNamespace(memory_sequence=7))
    slices = [RowSlice(work, 0, row, 1, row, 1, 5, T, T + 9, [1], [T + 9]) for row in rows]
    session: Any = None
    return Run(session, version, slices, len(rows), 100.0 * len(rows), is_second=is_second)


def rows_of(run: Run) -> list[int]:
    return [each.first_row for each in run.slices]


def test_a_batch_runs_again_in_halves_the_first_one_first() -> None:
    bench = Bench()
    bench.reruns.take(run_of(range(5)), HARD)
    assert bool(bench.reruns)
    assert bench.next() == [0, 1]
    bench.reruns.take(run_of([0, 1]), HARD)
    assert [bench.next() for _ in range(4)] == [[0], [1], [2, 3, 4], None]
    assert (bool(bench.reruns), bench.over) == (False, [])


def test_a_half_is_as_long_as_half_of_the_batch_and_no_second_try() -> None:
    bench = Bench()
    bench.reruns.take(run_of(range(4)), PASSING)
    half = bench.reruns.next(Running(), inf)
    assert half is not None
    assert (half.time_us, half.num_items, half.version, half.is_second) == (200.0, 2, VERSION, False)


def test_what_is_under_way_or_too_long_is_left_for_later() -> None:
    bench, other = Bench(), ("n", "v1.0.0")
    bench.reruns.take(run_of(range(4)), HARD)
    bench.reruns.take(run_of([7, 8], other), HARD)
    assert bench.next(VERSION, other) is None
    assert bench.next(other, max_time_us=200.0) is None  # as long as that
    assert bench.next(VERSION) == [7]
    assert bench.next(max_time_us=150.0) == [8]
    assert bench.next() == [0, 1]


@pytest.mark.parametrize(("error", "is_second"), [(HARD, False), (PASSING, True)])
def test_a_row_that_failed_for_good_has_the_error(error: ExecutionError, is_second: bool) -> None:
    bench = Bench()
    bench.reruns.take(run_of([3], is_second=is_second), error)
    assert (bench.over, bench.paused.runs, bool(bench.reruns)) == ([([3], error.problem)], [], False)


def test_a_row_that_may_not_be_paused_has_the_error() -> None:
    bench = Bench()
    bench.paused.is_full = True
    bench.reruns.take(run_of([3]), PASSING)
    assert bench.over == [([3], "no memory")]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_row_runs_once_more_after_its_pause_and_others_wait_where_they_must(ordered: bool) -> None:
    bench = Bench(*["m"] * ordered)
    bench.reruns.take(run_of([3]), PASSING)
    assert (bench.next(), bool(bench.reruns)) == (None, False)
    assert (bench.reruns.holds(VERSION), bench.reruns.versions()) == (ordered, [VERSION] * ordered)
    bench.reruns.take(run_of([4, 5]), HARD)
    assert bench.next() == (None if ordered else [4])
    bench.paused.is_over = True
    second = bench.reruns.next(Running(), inf)
    assert second is not None
    assert (rows_of(second), second.is_second) == ([3], True)
    assert bench.next() == ([4] if ordered else [5])


def test_a_version_runs_nothing_else_while_halves_of_it_wait() -> None:
    bench = Bench()
    bench.reruns.take(run_of([1, 2]), HARD)
    assert (bench.reruns.holds(VERSION), bench.reruns.holds(("n", "v1.0.0"))) == (True, False)
    assert bench.reruns.versions() == [VERSION, VERSION]
    assert [bench.next(), bench.next()] == [[1], [2]]
    assert not bench.reruns.holds(VERSION)


def test_a_rebalance_forgets_all() -> None:
    bench = Bench("m")
    bench.reruns.take(run_of([1, 2]), HARD)
    bench.reruns.take(run_of([3]), PASSING)
    bench.reruns.clear()
    bench.paused.is_over = True
    assert (bench.next(), bench.reruns.versions(), bench.reruns.holds(VERSION)) == (None, [], False)

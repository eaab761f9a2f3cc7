"""What a run's log says of why a goal was not reached."""

from dataclasses import replace

import pytest

from infra.bench.models import mlps
from infra.bench.obstacles import Ended, ended, longest_waits, obstacles, sentence, settled_sentence
from infra.bench.phase import Phase
from schemas.load import ExecutorLoad, VersionLoad
from schemas.result import ResultError
from tests.support.client_records import result
from tests.support.fake_bench import measured

BEGUN_US = 1_000_000  # of the fake's schedule


def waits(executor, at_s, items, running_us=0.0):
    version = VersionLoad("slow", "v1.0.0", 4_000.0, 1_000.0, 4, True, running_us, 9, 0, (0, items))
    return ExecutorLoad(executor, int(BEGUN_US + at_s * 1e6), 0, 2, (version,))


def test_queues_are_told_in_the_time_of_their_batches():
    loads = [waits("executor-1", 1.0, 100), waits("executor-0", 1.0, 10), waits("executor-1", 2.0, 3, 500.0)]
    assert longest_waits(loads, 0, 10 * BEGUN_US) == {"executor-0": 20.0, "executor-1": 200.0}
    assert longest_waits(loads, int(2.5e6), 10 * BEGUN_US) == {"executor-1": 6.5}
    assert longest_waits([], 0, 10 * BEGUN_US) == {}


def test_each_stretch_has_its_codes_queues_and_processors():
    phase = Phase("step", mlps(1)[:1], warmup_s=0.0, steps=((10.0, 12.0),))
    failures = [Ended(BEGUN_US + 1, "overloaded"), Ended(BEGUN_US + 6_000_000, "deadline_exceeded")]
    run = measured(phase, 5.0)
    run.looks[8].cpu_s["executor-1"] = 1.0
    looks = [replace(look, machine_s=0.5 * look.at_s) for look in run.looks]
    run = replace(run, looks=looks)
    rows = obstacles(run, failures, [waits("executor-0", 7.0, 1)], 0.0, 12.0, 2)
    assert [(row["t_s"], row["offered"], row["ok"], row["p99_ms"]) for row in rows] == [
        (0.0, 50, 50, 5.0), (5.0, 50, 50, 5.0), (10.0, 20, 20, 5.0),
    ]  # fmt: skip
    assert [row["codes"] for row in rows] == [{"overloaded": 1}, {"deadline_exceeded": 1}, {}]
    assert [row["waits_ms"] for row in rows] == [{}, {"executor-0": 2.0}, {}]
    assert [row["processors_percent"] for row in rows] == pytest.approx([7.5, 17.5, 7.5])
    assert [row["executors_percent"] for row in rows] == [0.0, 10.0, 0.0]
    assert sentence(rows[1]) == (
        "   5.0 s  50 of 50 OK (p99 5 ms), 1 deadline_exceeded; waits in ms: executor-0 2; "
        "processors busy 25 %, with the stack 18 %, with its executors 10 %"
    )
    assert "waits in ms: none" in sentence(rows[0])


def test_only_failures_count():
    results = [result(), result("r-2", "REJECTED", ResultError("overloaded", "too late", 50))]
    assert ended(results) == [Ended(1, "overloaded")]


def test_the_goal_is_said_to_be_reached_or_not():
    assert settled_sentence(8.5, 500.0, 60.0) == "the SLO (all OK, p99 under 500 ms) held again 8.5 s after the step"
    assert "did not hold again in the 60 s" in settled_sentence(None, 500.0, 60.0)

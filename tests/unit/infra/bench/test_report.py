"""The result document, the verdict on it, the median of several, and the printed tables."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from infra.bench.phase import Phase
from infra.bench.report import document, median_run, show, targets, verdict
from infra.bench.scenario import SCENARIOS
from infra.bench.template import Load
from streams.ledger import SOURCE, fold
from tests.support.fake_bench import measured

TOPIC_ID = bytes(16)
COMMON = (
    *("scenario", "parameters", "machine", "commit", "sent", "ok", "rate_rps", "mean_ms", "p50_ms", "p99_ms", "max_ms"),
    *("cpu_percent", "cpu_percent_total", "rss_mb", "missing", "duplicated", "reaped"),
)
PHASE = Phase("load", (Load("bench-00"),), 100.0, 4.0, 2.0)


def ledger(answers):
    """Two old requests at offsets 0 and 1 of partition 0, answered at the given offsets."""
    headers = [[("isos-source", SOURCE.pack(TOPIC_ID, 0, o)), ("isos-status", b"O")] for o in answers]
    return fold(TOPIC_ID, [(0, 0, 0), (0, 1, 0)], headers, now_ms=10_000, max_age_ms=10)


def made(name="headline", answers=(0, 1), latency_ms=5.0, extra=None, **changed):
    """A result of two equal phases, the first with ``changed`` counts, and its ledger."""
    run = measured(PHASE, latency_ms)
    first = replace(run, summary={**run.summary, **changed})
    found = ledger(answers)
    place = {"machine": {"cores": 2}, "commit": "abc"}
    return document(SCENARIOS[name], [first, run], extra or {}, found, place), found


def test_a_clean_run():
    result, found = made()
    assert set(COMMON) <= set(result)
    assert (result["sent"], result["ok"], len(result["phases"])) == (1200, 1200, 2)
    assert (result["cpu_percent"], result["cpu_percent_total"]) == ({"edge-0": 10.0, "generator": 5.0}, 15.0)
    assert result["rss_mb"] == {"edge-0": 50.0}
    assert verdict(result, found, SCENARIOS["headline"]) == ()


@pytest.mark.parametrize(
    ("answers", "changed", "word"),
    [
        ((0,), {}, "1 missing"),
        ((0, 1, 1), {}, "1 duplicated"),
        ((0, 1), {"missing": 3}, "3 missing"),
        ((0, 1), {"reaped": 1}, "1 reaped"),
        ((0, 1), {"misplaced": 2}, "2 misplaced"),
        ((0, 1), {"unacknowledged": 4}, "4 unacknowledged"),
        ((0, 1), {"ok": 599}, "1 of 1200 requests did not end OK"),
    ],
)
def test_loss_is_named_by_whoever_saw_it(answers, changed, word):
    result, found = made(answers=answers, **changed)
    assert any(word in sentence for sentence in verdict(result, found, SCENARIOS["headline"]))


def test_refusals_are_no_fault_where_too_much_is_offered():
    result, found = made("overload", ok=599)
    assert verdict(result, found, SCENARIOS["overload"]) == ()


def test_targets_are_judged():
    assert [met for _, met in targets(made(latency_ms=21.0)[0], SCENARIOS["headline"])] == [False, True]
    assert [met for _, met in targets(made(latency_ms=50.0)[0], SCENARIOS["headline"])] == [False, False]
    assert targets(made("overload", extra={"goodput_ratio": 0.95})[0], SCENARIOS["overload"])[0] == (
        "goodput_ratio 0.95, at least 0.9", True,
    )  # fmt: skip
    assert not targets(made("overload")[0], SCENARIOS["overload"])[0][1]
    assert targets(made("smoke")[0], SCENARIOS["smoke"]) == []


def test_the_median_of_three_runs_and_none_is_the_worst():
    runs = [{"p99_ms": value, "mean_ms": mean} for value, mean in ((30.0, 9.0), (None, 7.0), (20.0, 8.0))]
    found = median_run(runs, "p99_ms")
    assert (found["p99_ms"], found["mean_ms"]) == (30.0, 9.0)
    assert found["median"] == {"mean_ms": 8.0}
    assert len(found["runs"]) == 3
    assert median_run(runs[:1], "p99_ms") is runs[0]


def test_the_tables_show_phases_processes_and_targets():
    text = io.StringIO()
    show(Console(file=text, width=150), made()[0], SCENARIOS["headline"])
    for word in ("edge-0", "all", "load", "target mean_ms 5.0, at most 20: met", "missing 0, duplicated 0"):
        assert word in text.getvalue()

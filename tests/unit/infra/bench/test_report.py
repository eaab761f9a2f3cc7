"""The result document, the verdict on it, and the printed table."""

import io

import pytest
from rich.console import Console

from infra.bench.processes import Sample
from infra.bench.report import document, show, targets, verdict
from infra.bench.scenario import SCENARIOS
from streams.ledger import SOURCE, fold

TOPIC_ID = bytes(16)
COMMON = (
    *("scenario", "parameters", "machine", "commit", "sent", "ok", "rate_rps", "mean_ms", "p50_ms", "p99_ms", "max_ms"),
    *("cpu_percent", "cpu_percent_total", "rss_mb", "missing", "duplicated", "reaped"),
)


def ledger(answers):
    """Two old requests at offsets 0 and 1 of partition 0, answered at the given offsets."""
    headers = [[("isos-source", SOURCE.pack(TOPIC_ID, 0, o)), ("isos-status", b"O")] for o in answers]
    return fold(TOPIC_ID, [(0, 0, 0), (0, 1, 0)], headers, now_ms=10_000, max_age_ms=10)


def summary(**changed):
    counts = dict.fromkeys(("error", "rejected", "expired", "unacknowledged", "missing", "duplicated", "reaped"), 0)
    latencies = {"mean_ms": 10.0, "p50_ms": 9.0, "p99_ms": 99.0, "max_ms": 120.0, "late_start_p99_ms": 1.0}
    return {"sent": 2, "ok": 2, "rate_rps": 100.0, **counts, **latencies, **changed}


def result(answers=(0, 1), **changed):
    looks = (
        Sample(0.0, {"edge-0": 1.0, "generator": 0.0}, {}),
        Sample(10.0, {"edge-0": 3.0, "generator": 1.0}, {"edge-0": 5e7, "generator": 6e7}),
    )
    place = {"machine": {"cores": 2}, "commit": "abc"}
    found = ledger(answers)
    return document(SCENARIOS["headline"], summary(**changed), found, looks, place), found


def test_a_clean_run():
    made, found = result()
    assert set(COMMON) <= set(made)
    assert (made["cpu_percent"], made["cpu_percent_total"]) == ({"edge-0": 20.0, "generator": 10.0}, 30.0)
    assert made["rss_mb"] == {"edge-0": 50.0, "generator": 60.0}
    assert verdict(made, found) == ()


@pytest.mark.parametrize(
    ("answers", "changed", "word"),
    [
        ((0,), {}, "1 missing"),
        ((0, 1, 1), {}, "1 duplicated"),
        ((0, 1), {"missing": 3}, "3 missing"),
        ((0, 1), {"reaped": 1}, "1 reaped"),
        ((0, 1), {"ok": 1}, "1 of 2 requests did not end OK"),
    ],
)
def test_loss_is_named_by_whoever_saw_it(answers, changed, word):
    made, found = result(answers, **changed)
    assert any(word in sentence for sentence in verdict(made, found))


def test_targets_are_judged():
    scenario = SCENARIOS["headline"]
    assert targets(result()[0], scenario) == [("mean_ms", 47, True), ("p99_ms", 100, True)]
    assert targets(result(mean_ms=48.0)[0], scenario)[0] == ("mean_ms", 47, False)
    assert targets(result(p99_ms=None)[0], scenario)[1] == ("p99_ms", 100, False)
    assert targets(result()[0], SCENARIOS["smoke"]) == []


def test_the_table_shows_figures_processes_and_targets():
    text = io.StringIO()
    show(Console(file=text, width=150), result()[0], SCENARIOS["headline"])
    for word in ("edge-0", "generator", "99.0", "target mean_ms <= 47: met"):
        assert word in text.getvalue()

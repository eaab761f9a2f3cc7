"""Figures by time and by load, on small runs made by hand."""

import numpy as np
import pytest

from infra.bench.phase import Phase
from infra.bench.template import Load
from infra.bench.timeline import counts, of_loads, percentiles, scheduled_between, settled_s, timeline
from tests.support.fake_bench import measured

LOADS = (Load("model-a"), Load("model-b"))


def run(latency_ms=5.0, status=1, rate=10.0, seconds=3.0):
    return measured(Phase("p", LOADS, rate, seconds, 0.0), latency_ms, status)


def test_a_row_per_second():
    made = run(np.arange(30.0), np.where(np.arange(30) == 29, 3, 1))
    rows = timeline(made.sent, made.matched)
    assert [row["t_s"] for row in rows] == [0.0, 1.0, 2.0]
    assert [(row["offered"], row["ok"], row["rejected"]) for row in rows] == [(10, 10, 0), (10, 10, 0), (10, 9, 1)]
    assert rows[1]["p50_ms"] == pytest.approx(14.5)
    assert (rows[2]["max_ms"], rows[0]["mean_ms"]) == (28.0, 4.5)


def test_nothing_has_no_rows_and_no_percentiles():
    assert set(percentiles(np.zeros(0, np.int64)).values()) == {None}
    made = run(rate=0.1, seconds=1.0)
    assert timeline(made.sent, made.matched) == []


def test_parts_of_a_run():
    made = run(status=np.tile([1, 4], 15))
    first = scheduled_between(made.sent, 0.0, 1.0)
    assert int(first.sum()) == 10
    assert counts(made.matched, first & of_loads(made.sent, [1])) == {
        "sent": 5, "ok": 0, "error": 0, "rejected": 0, "expired": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("slow_until", "settled"),
    [(0.0, 0.0), (1.0, 0.0), (1.4, 0.5), (2.6, 2.0), (10.0, None)],
)
def test_settled_is_when_the_last_bad_stretch_is_over(slow_until, settled):
    made = run(np.where(np.arange(400) / 100 < slow_until, 300.0, 5.0), rate=100.0, seconds=4.0)
    assert settled_s(made.sent, made.matched, 1.0, 4.0, 100.0) == settled


def test_a_refusal_is_not_settled():
    made = run(status=np.where(np.arange(30) == 15, 3, 1))
    assert settled_s(made.sent, made.matched, 0.0, 3.0, 100.0) == 2.0

"""What a phase shows after its warm-up."""

import numpy as np
import pytest

from infra.bench.phase import SUMMED, Phase
from infra.bench.template import Load
from tests.support.fake_bench import measured

LOADS = (Load("model-a"), Load("model-b"))


def made(**changed):
    phase = Phase("p", LOADS, 100.0, 4.0, 2.0, **changed)
    return measured(phase, np.where(np.arange(600) % 2, 20.0, 10.0))


def test_models_apart_and_after_the_warm_up():
    found = made().of("model-b")
    assert (found["sent"], found["ok"], found["p50_ms"]) == (200, 200, 20.0)
    assert made().by_load(0, 1)["sent"] == 400


def test_cpu_over_the_measured_stretch():
    run = made()
    assert [look.at_s for look in run.frame()] == [2.0, 6.0]
    assert run.cpu() == {"edge-0": 10.0, "generator": 5.0}
    assert run.cpu_us_per_request() == pytest.approx(0.15 * 1e6 / 100)
    assert run.max_rss_mb() == {"edge-0": 50.0}


def test_processes_that_came_or_went_meanwhile_count():
    run = made()
    run.looks[4].cpu_s["executor-1"] = 0.2
    run.looks[4].rss_bytes["executor-1"] = 30_000_000
    assert run.cpu() == {"edge-0": 10.0, "generator": 5.0, "executor-1": 5.0}
    assert run.cpu_us_per_request() == pytest.approx(0.2 * 1e6 / 100)
    assert run.last_rss_mb() == {"edge-0": 50.0, "executor-1": 30.0}
    assert [look.at_s for look in run.around(3.2, 4.0)] == [3.0, 4.0]
    assert [look.at_s for look in run.around(0.5, 2.2)] == [0.0, 1.0, 2.0, 3.0]
    assert [look.at_s for look in run.around(-1.0, 99.0)] == [look.at_s for look in run.looks]


def test_one_look_in_a_short_measured_stretch_is_no_division_by_zero():
    phase = Phase("p", LOADS, 100.0, 0.5, 1.6)
    run = measured(phase, np.full(210, 10.0))
    assert len([look for look in run.looks if look.at_s >= 1.6 and look.at_s <= 2.15]) == 1
    assert run.cpu() == {"edge-0": 10.0, "generator": 5.0}
    assert run.document()["cpu_over_s"] > 0


def test_a_phase_of_steps_lasts_as_long_as_they_do():
    assert Phase("p", LOADS, steps=((1.0, 2.0), (3.0, 4.0))).total_s == 6.0
    assert Phase("p", LOADS, 1.0, 4.0, 2.0).total_s == 6.0


def test_the_document_has_counts_figures_and_a_timeline():
    document = made().document()
    assert set(SUMMED) <= set(document)
    assert (document["sent"], document["models"], document["cpu_percent_total"]) == (600, 2, 15.0)
    assert len(document["timeline"]) == 6

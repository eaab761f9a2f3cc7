"""From observations to outcomes; drift is confirmed beyond chance, and only where it matters."""

from __future__ import annotations

import random

import pytest

from agents.check_rules import CheckParams, Facts
from agents.check_verdict import ALPHA, critical_ks, judge, judge_drift
from schemas.check import CHECKS, DRIFT, GOLDEN_SET, INTEGRITY, LATENCY, SERVING, STATISTICS, CheckRequest, Observation
from schemas.figures import (
    AnswerFigures,
    DriftFigures,
    FeatureDrift,
    GoldenFigures,
    HeldArtefact,
    IntegrityFigures,
    StatisticsFigures,
)
from streams.canonical import to_json
from streams.histogram import ks
from tests.unit.agents.test_check_rules import DIGEST, FACTS, SENT

PARAMS = CheckParams()
FIGURES: dict[str, object] = {
    GOLDEN_SET: GoldenFigures(DIGEST, 200, 200, 200),
    SERVING: SENT,
    LATENCY: SENT,
    INTEGRITY: IntegrityFigures(DIGEST, (HeldArtefact("executor-0", DIGEST),)),
    STATISTICS: StatisticsFigures(100, 0),
    DRIFT: DriftFigures((FeatureDrift("image/0", 0.02, 500, 500),)),
}


def observation(check: str, figures: str = "", version: str = "v1.0.0", problem: str = "") -> Observation:
    request = CheckRequest("a/b", check, "digits", version, "", "", "operator", 1, 2)
    return Observation(request, not problem, problem, 0, figures, 1, 2)


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_its_rule_and_its_figures(check: str) -> None:
    assert judge(observation(check, to_json(FIGURES[check])), FACTS, PARAMS).outcome == "passed"
    wrong = judge(observation(check, '{"what":1}'), FACTS, PARAMS)
    assert (wrong.outcome, wrong.message.startswith("The figures cannot be read: ")) == ("not_run", True)


@pytest.mark.parametrize(
    ("given", "facts", "said"),
    [
        (observation(SERVING, problem="No broker."), FACTS, "No broker."),
        (observation(SERVING, to_json(SENT), "v9.0.0"), FACTS, "digits has no version v9.0.0."),
        (observation(SERVING, to_json(SENT)), None, "digits has no version v1.0.0."),
        (observation("magic", to_json(SENT)), FACTS, "There is no check magic."),
    ],
)
def test_what_cannot_be_judged_is_never_passed(given: Observation, facts: Facts | None, said: str) -> None:
    judged = judge(given, facts, PARAMS)
    assert (judged.outcome, judged.message) == ("not_run", said)


def test_the_critical_distance_is_the_tabled_one() -> None:
    # Smirnov 1948: 1.358 and 1.628 times sqrt((n + m) / (n m)) at 0.05 and 0.01.
    assert critical_ks(100, 100, 0.05) == pytest.approx(1.358 * (2 / 100) ** 0.5, abs=2e-4)
    assert critical_ks(50, 200, 0.01) == pytest.approx(1.628 * (250 / 10_000) ** 0.5, abs=2e-4)


def features(*distances: float, num_rows: int = 2_000) -> DriftFigures:
    return DriftFigures(tuple(FeatureDrift(f"f{at}", ks, num_rows, 2_000) for at, ks in enumerate(distances)))


@pytest.mark.parametrize(
    ("figures", "outcome"),
    [
        (features(0.0, 0.05, 0.09), "passed"),
        (features(0.0, 0.05, 0.1), "failed"),
        (features(0.15, num_rows=100), "passed"),
        (features(0.25, num_rows=100), "failed"),
        (features(0.9, num_rows=49), "not_run"),
        (DriftFigures(()), "not_run"),
    ],
)
def test_drift_needs_a_distance_that_matters_and_rows_enough(figures: DriftFigures, outcome: str) -> None:
    assert judge_drift(figures).outcome == outcome


def test_drift_names_the_worst_measures() -> None:
    judged = judge_drift(features(0.01, 0.4, 0.2, 0.3))
    wanted = "3 of 4 measures of 2000 rows differ from the reference: f1 (KS 0.4), f3 (KS 0.3), f2 (KS 0.2)."
    assert (judged.outcome, judged.message, judged.num_samples) == ("failed", wanted, 2_000)


def test_rows_of_the_reference_itself_are_hardly_ever_called_drift() -> None:
    """64 measures of 200 rows, drawn anew 100 times: ``ALPHA`` shared among the measures allows one in a thousand."""
    chance = random.Random(7)
    bins = [0] * 10

    def drawn() -> list[int]:
        counts = bins.copy()
        for _ in range(200):
            counts[chance.randrange(10)] += 1
        return counts

    reference = [200] * 10
    outcomes = []
    for _ in range(100):
        found = tuple(FeatureDrift(f"f{at}", ks(reference, drawn()), 200, 2_000) for at in range(64))
        outcomes.append(judge_drift(DriftFigures(found)).outcome)
    assert ALPHA == 0.001
    assert outcomes.count("failed") == 0


def test_answers_of_an_older_prober_are_read() -> None:
    older = '{"source":"traffic","num_rows":50,"num_ok":50,"num_error":0,"num_rejected":0,"num_expired":0,'
    older += '"num_other":0,"latency_counts":[50]}'
    assert judge(observation(SERVING, older), FACTS, PARAMS).outcome == "passed"
    assert AnswerFigures("traffic", 50, 50, 0, 0, 0, 0, (50,)).problem == ""

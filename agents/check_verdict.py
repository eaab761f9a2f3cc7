"""From an observation to an outcome: the rule of its check, and the second look at drift. Pure.

``drift_confirmed`` compares rows since the alert with the reference, a sample that the alert did not see: for each
measure the two-sample Kolmogorov-Smirnov test on the bins they share (Smirnov 1948; the critical distance is
sqrt(-ln(alpha / 2) / 2 * (n + m) / (n m))). On bins the distance is at most the true one, so the test is conservative.
``ALPHA`` is shared among the measures (Bonferroni), and a distance below ``MIN_KS`` is too small to matter.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Final

from agents.check_rules import (
    CheckParams,
    Facts,
    Judged,
    judge_golden,
    judge_integrity,
    judge_latency,
    judge_serving,
    judge_statistics,
    not_run,
)
from schemas.check import DRIFT, GOLDEN_SET, INTEGRITY, LATENCY, SERVING, STATISTICS, Observation
from schemas.figures import (
    AnswerFigures,
    DriftFigures,
    FeatureDrift,
    GoldenFigures,
    IntegrityFigures,
    StatisticsFigures,
)
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError

ALPHA: Final = 0.001
MIN_KS: Final = 0.1
MIN_ROWS: Final = 50
NAMED: Final = 3


def judge(observation: Observation, facts: Facts | None, params: CheckParams) -> Judged:
    """What an observation says of its model version, by what memory says of the model (None: it is unknown)."""
    request = observation.request
    if not observation.has_run:
        return not_run(observation.problem)
    if facts is None or request.version not in facts.digests:
        return not_run(f"{request.model} has no version {request.version}.")
    try:
        return _judge(request.check, request.version, observation.figures, facts, params)
    except PoisonRecordError as error:
        return not_run(f"The figures cannot be read: {error.message}.")


def _judge(check: str, version: str, figures: str, facts: Facts, params: CheckParams) -> Judged:
    if check == GOLDEN_SET:
        return judge_golden(from_json(GoldenFigures, figures, newer=True), facts, params)
    if check == SERVING:
        return judge_serving(from_json(AnswerFigures, figures, newer=True), facts, params)
    if check == LATENCY:
        return judge_latency(from_json(AnswerFigures, figures, newer=True), facts, params)
    if check == INTEGRITY:
        return judge_integrity(from_json(IntegrityFigures, figures, newer=True), version, facts)
    if check == STATISTICS:
        return judge_statistics(from_json(StatisticsFigures, figures, newer=True), params)
    if check == DRIFT:
        return judge_drift(from_json(DriftFigures, figures, newer=True))
    return not_run(f"There is no check {check}.")


def critical_ks(num_rows: int, num_reference: int, alpha: float) -> float:
    """The distance of two samples of one distribution that is exceeded with probability ``alpha``, to 4 digits."""
    return round(sqrt(-log(alpha / 2) / 2 * (num_rows + num_reference) / (num_rows * num_reference)), 4)


def judge_drift(figures: DriftFigures) -> Judged:
    """Whether later rows are distributed like the reference's: failed when a measure is not, beyond chance."""
    counted = [each for each in figures.features if each.num_rows >= MIN_ROWS and each.num_reference >= MIN_ROWS]
    num_samples = max((each.num_rows for each in figures.features), default=0)
    if not counted:
        return not_run(f"Only {num_samples} rows were sampled since.", num_samples, to_json(figures))
    alpha = ALPHA / len(counted)
    drifted = [
        each for each in counted if each.ks >= max(MIN_KS, critical_ks(each.num_rows, each.num_reference, alpha))
    ]
    named = ", ".join(f"{each.name} (KS {each.ks:g})" for each in _by_distance(counted)[:NAMED])
    sentence = f"{len(drifted)} of {len(counted)} measures of {num_samples} rows differ from the reference: {named}."
    evidence = to_json(DriftFigures(tuple(_by_distance(counted)[:20])))
    return Judged("failed" if drifted else "passed", sentence, num_samples, evidence)


def _by_distance(features: list[FeatureDrift]) -> list[FeatureDrift]:
    return sorted(features, key=lambda each: (-each.ks, each.name))

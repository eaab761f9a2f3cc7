"""Outcomes of checks by their figures, at and beside each threshold."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.check_rules import (
    CheckParams,
    Facts,
    judge_golden,
    judge_integrity,
    judge_latency,
    judge_serving,
    judge_statistics,
    percent,
    ppm,
    quantile_ms,
    wilson,
)
from schemas.check import GoldenSet
from schemas.figures import AnswerFigures, GoldenFigures, HeldArtefact, IntegrityFigures, StatisticsFigures
from schemas.serving import Slo
from schemas.telemetry import LATENCY_BOUNDS_MS
from streams.canonical import from_json

DIGEST, OTHER = "ab" * 32, "cd" * 32
GOLDEN = GoldenSet("digits", DIGEST, 4_000, 200, "labels", "classes", 950_000)
FACTS = Facts({"v1.0.0": DIGEST}, "v1.0.0", GOLDEN, None, 30_000)
PARAMS = CheckParams()
SENT = AnswerFigures("requests", 50, 50, 0, 0, 0, 0, (0, 0, 50))
TRAFFIC = replace(SENT, source="traffic")


def test_wilson_is_the_published_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    published = {(81, 263): (2553, 3662), (15, 148): (624, 1605), (0, 20): (0, 1611), (1, 29): (61, 1718)}
    for (hits, rows), bounds in published.items():
        assert tuple(round(bound / 100) for bound in wilson(hits, rows)) == bounds


@given(st.integers(1, 400), st.data())
def test_wilson_holds_the_share_and_mirrors(num_rows: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, num_rows))
    low, high = wilson(hits, num_rows)
    assert 0 <= low <= round(hits * 1e6 / num_rows) <= high <= 1_000_000
    mirrored = wilson(num_rows - hits, num_rows)
    assert abs(mirrored[0] + high - 1_000_000) <= 1
    assert abs(mirrored[1] + low - 1_000_000) <= 1


def test_wilson_covers_nine_in_ten_exactly_counted() -> None:
    """By the exact binomial of 30 rows: the bounds hold a share of 0.2 with 90 to 99 %."""
    inside = [k for k in range(31) if wilson(k, 30)[0] <= 200_000 <= wilson(k, 30)[1]]
    covered = sum(comb(30, k) * 0.2**k * 0.8 ** (30 - k) for k in inside)
    assert 0.90 < covered < 0.99


@pytest.mark.parametrize(
    ("num_answered", "num_right", "outcome"),
    [(200, 190, "passed"), (200, 189, "failed"), (180, 171, "passed"), (180, 170, "failed"), (179, 179, "not_run")],
)
def test_a_golden_set(num_answered: int, num_right: int, outcome: str) -> None:
    judged = judge_golden(GoldenFigures(DIGEST, 200, num_answered, num_right, "overloaded"), FACTS, PARAMS)
    assert judged.outcome == outcome
    if outcome == "not_run":
        assert judged.message == "Only 179 of 200 rows were answered (overloaded)."
    else:
        assert judged.num_samples == num_answered
        assert f"{percent(ppm(num_right, num_answered))} of {num_answered} rows are right" in judged.message
        assert '"min_accuracy_ppm":950000' in judged.evidence


def test_a_golden_set_that_was_changed_meanwhile_says_nothing() -> None:
    figures = GoldenFigures(OTHER, 200, 200, 0)
    assert judge_golden(figures, FACTS, PARAMS).outcome == "not_run"
    assert judge_golden(replace(figures, digest=DIGEST), replace(FACTS, golden=None), PARAMS).outcome == "not_run"


@pytest.mark.parametrize(
    ("change", "outcome", "said"),
    [
        ({}, "passed", "50 of 50 rows of the check ended OK."),
        ({"num_ok": 49, "num_error": 1, "problem": "internal"}, "failed", "49 of 50 rows of the check ended OK, first"),
        ({"num_ok": 49, "num_expired": 1}, "failed", "49 of 50"),
        ({"num_other": 2}, "failed", "48 of 50 rows of the check ended OK, 2 were answered by another version."),
        (
            {"num_ok": 9, "num_rejected": 41, "problem": "overloaded"},
            "not_run",
            "Only 9 rows of the check were answered",
        ),
        ({"num_ok": 8, "num_error": 1, "num_rejected": 41}, "failed", "8 of 9"),
        ({"num_ok": 0, "num_rows": 0}, "not_run", "Only 0 rows of the check were answered."),
    ],
)
def test_serving_by_requests_of_its_own(change: dict[str, int], outcome: str, said: str) -> None:
    judged = judge_serving(replace(SENT, **change), FACTS, PARAMS)  # type: ignore[arg-type]
    assert (judged.outcome, judged.message.startswith(said)) == (outcome, True), judged.message


@pytest.mark.parametrize(("num_error", "outcome"), [(0, "passed"), (1, "passed"), (2, "failed"), (50, "failed")])
def test_serving_by_traffic_allows_what_the_slo_allows(num_error: int, outcome: str) -> None:
    figures = replace(TRAFFIC, num_ok=50 - num_error, num_error=num_error)
    assert judge_serving(figures, FACTS, PARAMS).outcome == outcome
    generous = replace(FACTS, slo=Slo(error_ppm=100_000))
    assert judge_serving(figures, generous, PARAMS).outcome == ("failed" if num_error == 50 else "passed")


@pytest.mark.parametrize(
    ("slo", "counts", "outcome"),
    [
        (Slo(3, 10_000), (0, 0, 50), "passed"),
        (Slo(2, 10_000), (0, 0, 50), "failed"),
        (Slo(2, 10_000), (0, 49, 1), "passed"),
        (Slo(2, 10_000), (0, 47, 3), "failed"),
        (Slo(2, 100_000), (0, 47, 3), "passed"),
        (Slo(error_ppm=1_000), (0, 0, 50), "passed"),
        (None, (0, 0, 50), "passed"),
        (None, (0,) * LATENCY_BOUNDS_MS.index(40_000) + (50,), "failed"),
        (None, (0, 0, 9), "not_run"),
    ],
)
def test_latency(slo: Slo | None, counts: tuple[int, ...], outcome: str) -> None:
    figures = replace(SENT, latency_counts=counts)
    judged = judge_latency(figures, replace(FACTS, slo=slo), PARAMS)
    assert judged.outcome == outcome, judged
    assert from_json(AnswerFigures, judged.evidence, newer=True) == figures


def test_latency_without_a_plan_says_nothing_and_names_its_quantiles_otherwise() -> None:
    assert judge_latency(SENT, replace(FACTS, timeout_ms=0), PARAMS).outcome == "not_run"
    judged = judge_latency(replace(SENT, latency_counts=(10, 39, 0, 1)), replace(FACTS, slo=Slo(250, 10_000)), PARAMS)
    assert judged.message == "p50 up to 2 ms, p99 up to 4 ms of 50 rows of the check; its SLO is 250 ms."


@pytest.mark.parametrize(
    ("counts", "percentile", "bound_ms"),
    [((1,), 50, 1), ((1,), 99, 1), ((50, 50), 50, 1), ((49, 51), 50, 2), ((98, 1, 1), 99, 2), ((98, 0, 2), 99, 3)],
)
def test_quantiles(counts: tuple[int, ...], percentile: int, bound_ms: int) -> None:
    assert quantile_ms(counts, percentile) == bound_ms


def test_a_quantile_above_all_bounds_is_said_so() -> None:
    counts = (0,) * len(LATENCY_BOUNDS_MS) + (20,)
    assert quantile_ms(counts, 50) == 0
    judged = judge_latency(replace(SENT, latency_counts=counts), FACTS, PARAMS)
    assert (judged.outcome, "p50 above 60000 ms" in judged.message) == ("failed", True)


@pytest.mark.parametrize(
    ("stored", "held", "active", "outcome", "said"),
    [
        (DIGEST, (DIGEST,), True, "passed", "The stored file is abababababab, and 1 executor holds it."),
        (DIGEST, (DIGEST, DIGEST), True, "passed", "The stored file is abababababab, and 2 executors hold it."),
        (DIGEST, (), False, "passed", "The stored file is abababababab, and 0 executors hold it."),
        (DIGEST, (), True, "failed", "The stored file is sound, but no executor holds the active version."),
        (OTHER, (DIGEST,), True, "failed", "The stored file abababababab holds other bytes (cdcdcdcdcdcd)."),
        ("", (DIGEST,), True, "failed", "The file abababababab is not in the model store."),
        (DIGEST, (DIGEST, OTHER), True, "failed", "executor-1 holds another file than abababababab."),
    ],
)
def test_integrity(stored: str, held: tuple[str, ...], active: bool, outcome: str, said: str) -> None:
    executors = tuple(HeldArtefact(f"executor-{at}", digest) for at, digest in enumerate(held))
    facts = replace(FACTS, active="v1.0.0" if active else "v2.0.0")
    judged = judge_integrity(IntegrityFigures(stored, executors), "v1.0.0", facts)
    assert (judged.outcome, judged.message, judged.num_samples) == (outcome, said, len(held))


@pytest.mark.parametrize(
    ("figures", "outcome"),
    [
        (StatisticsFigures(9, 9), "not_run"),
        (StatisticsFigures(100, 5), "passed"),
        (StatisticsFigures(100, 20), "failed"),
        (StatisticsFigures(100, 0, 6_400, 64, 0), "passed"),
        (StatisticsFigures(100, 0, 6_400, 200, 0), "failed"),
        (StatisticsFigures(100, 0, 6_400, 0, 640), "failed"),
    ],
)
def test_statistics(figures: StatisticsFigures, outcome: str) -> None:
    judged = judge_statistics(figures, PARAMS)
    assert (judged.outcome, from_json(StatisticsFigures, judged.evidence)) == (outcome, figures)

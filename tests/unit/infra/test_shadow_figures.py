"""Figures of shadows: counts, agreement and times of copies and rows, each request once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.comparison import WAIT_US, Waiting, copies_executed, expired, rows_answered
from infra.shadow_figures import figures
from schemas.quick import replaced
from schemas.shadow import ShadowComparison
from streams.columns import ERROR, REJECTED
from tests.support.frames import TOPIC_ID, T
from tests.support.shadowed import SERVING, SHADOWING, answered, copies, shadowed

ONE, OTHER = [0.1, 0.9], [0.9, 0.1]


def compared(rows: list[list[float]], others: list[list[float]], first: int = 100) -> ShadowComparison:
    waiting, _ = rows_answered(Waiting(), answered(rows, first=first), shadowed(), T)
    ((effect,)) = copies_executed(waiting, copies(others, first=first), T)[1]
    return effect.comparisons[0]


def failed(first: int, status: int) -> ShadowComparison:
    waiting, _ = rows_answered(Waiting(), answered([ONE], first=first), shadowed(), T)
    (effect,) = copies_executed(waiting, copies([ONE], first=first, status=status), T)[1]
    return effect.comparisons[0]


def alone(first: int) -> ShadowComparison:
    waiting, _ = copies_executed(Waiting(), copies([ONE], first=first), T)
    (effect,) = expired(waiting, TOPIC_ID, 1, T + WAIT_US)[1]
    return effect.comparisons[0]


def test_counts_and_agreement() -> None:
    records = [
        compared([ONE, ONE, ONE, ONE], [ONE, [0.2, 0.8], OTHER, ONE]),
        failed(200, ERROR),
        failed(300, REJECTED),
        replace(compared([ONE], [ONE], 400), num_unheard=5),
    ]
    (row,) = figures(records, "digits")
    assert (row["version"], row["primary_versions"], row["rows"], row["unheard"]) == (SHADOWING, [SERVING], 7, 5)
    assert (row["ok"], row["error"], row["rejected"], row["expired"], row["primary_failed"]) == (5, 1, 1, 0, 0)
    assert (row["compared"], row["equal"], row["agrees"], row["differs"], row["agreement"]) == (5, 3, 1, 1, 0.8)


def test_times_are_those_of_what_went_well() -> None:
    slow = compared([ONE, ONE, ONE], [ONE, ONE, ONE])
    slow = replace(slow, latencies_us=np.array([1_000, 3_000, 50_000], "<i4").tobytes(), statuses=bytes([1, 1, ERROR]))
    (row,) = figures([slow], "digits")
    assert (row["p50_ms"], row["run_p50_ms"]) == (2.0, 0.2)
    assert row["p99_ms"] == pytest.approx(2.98)
    assert (row["primary_p50_ms"], row["primary_p99_ms"]) == (0.001, 0.001)


def test_a_request_counts_once_and_rather_beside_its_row() -> None:
    (row,) = figures([alone(100), compared([ONE, ONE], [ONE, ONE]), alone(101)], "digits")
    assert (row["rows"], row["compared"]) == (2, 2)
    elsewhere = replace(alone(100), partition=2)
    (row,) = figures([alone(100), elsewhere], "digits")
    assert (row["rows"], row["compared"], row["agreement"]) == (2, 0, None)
    assert (row["primary_p50_ms"], row["primary_versions"]) == (None, [])


def test_other_models_and_what_is_older_do_not_count() -> None:
    record = compared([ONE], [ONE])
    assert figures([record], "other") == []
    assert figures([record], "digits", since_us=T + 1) == []
    other = replace(record, version="v9.0.0")
    assert [each["version"] for each in figures([other, record], "digits", since_us=T)] == [SHADOWING, "v9.0.0"]


def test_only_unheard_rows_are_figures_too() -> None:
    waiting, _ = rows_answered(Waiting(), replaced(answered([ONE, ONE])), shadowed(), T)
    (effect,) = expired(waiting, TOPIC_ID, 1, T + WAIT_US)[1]
    (row,) = figures(effect.comparisons, "digits")
    assert (row["rows"], row["unheard"], row["agreement"], row["p50_ms"]) == (0, 2, None, None)

"""How rows of a check ended, by answers and by windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.answer_counts import TRAFFIC_ROWS, TrafficCounts, code_of, figures_of
from schemas.figures import AnswerFigures
from schemas.result import InferenceResult, ResultError, Timing
from schemas.telemetry import LATENCY_BOUNDS_MS, ModelWindow, Telemetry
from streams.client.answer import Answer, NoResultError
from tests.support.samples import RESULT

T = 1_700_000_000_000_000


def answer(status: Any = "OK", code: str = "", took_us: int = 4_500, version: str = "v1.0.0") -> Answer:
    error = ResultError(code, "why", 0) if code else None
    timing = Timing(T, T, T, T + took_us)
    result: InferenceResult = replace(
        RESULT, status=status, error=error, received_us=T, timing=timing, model_version=version
    )
    return Answer({}, result, T)


def test_each_answer_counts_as_what_it_is() -> None:
    answers: list[Any] = [
        answer(),
        answer(took_us=5_001),
        answer("ERROR", "internal"),
        answer("REJECTED", "overloaded"),
        answer("EXPIRED", "deadline"),
        NoResultError("r1", 10.0),
        answer(version="v0.9.0"),
    ]
    counts = [0] * (LATENCY_BOUNDS_MS.index(6) + 1)
    counts[LATENCY_BOUNDS_MS.index(5)], counts[LATENCY_BOUNDS_MS.index(6)] = 2, 1
    wanted = AnswerFigures("requests", 7, 3, 1, 1, 2, 1, tuple(counts), "internal")
    assert figures_of(answers, "v1.0.0") == wanted
    assert figures_of([], "v1.0.0") == AnswerFigures("requests", 0, 0, 0, 0, 0, 0, ())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (answer(), ""),
        (answer("ERROR", "internal"), "internal"),
        (answer(version="v0.9.0"), "other_version"),
        (NoResultError("r1", 10.0), "no_result"),
    ],
)
def test_why_an_answer_does_not_count(given: Answer, code: str) -> None:
    assert code_of(given, "v1.0.0") == code


def test_the_slowest_answers_and_clocks_that_run_backwards_have_a_place() -> None:
    counts = figures_of([answer(took_us=61_000_000), answer(took_us=-5)], "v1.0.0").latency_counts
    assert (len(counts), counts[0], counts[-1]) == (len(LATENCY_BOUNDS_MS) + 1, 1, 1)


def window(num_ok: int, num_error: int = 0, *, stage: str = "validator", since_us: int = T) -> Telemetry:
    rows = num_ok + num_error
    part = ModelWindow("digits", "v1.0.0", rows, num_ok, num_error, 0, 0, 1, 1, (0, num_ok))
    other = ModelWindow("digits", "v0.9.0", 7, 7, 0, 0, 0, 1, 1, (7,))
    return Telemetry(stage, 0, since_us, 1_000_000, 1, 0, (other, part))


def test_traffic_is_what_validators_tell_of_the_version_since_then() -> None:
    counts = TrafficCounts("digits", "v1.0.0", T)
    assert not counts.add(window(30, since_us=T - 1))
    assert not counts.add(window(30, stage="router"))
    assert not counts.add(None)
    assert not counts.add(window(TRAFFIC_ROWS - 2, 1))
    assert counts.add(window(1))
    total = TRAFFIC_ROWS - 1
    assert counts.figures() == AnswerFigures("traffic", TRAFFIC_ROWS, total, 1, 0, 0, 0, (0, total))

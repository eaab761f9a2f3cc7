"""Serving policy and breaker: what stands in memory."""

from __future__ import annotations

import pytest

from schemas.serving import Breaker, ServingPolicy, Slo
from streams.canonical import from_json, to_json


def test_a_policy_of_an_older_release_has_the_defaults() -> None:
    assert from_json(ServingPolicy, '{"model":"digits"}') == ServingPolicy("digits", (), 2, False, True, None)


def test_a_policy_with_an_slo_comes_back_also_from_a_later_release() -> None:
    policy = ServingPolicy("digits", slo=Slo(250, 10_000, 1_000))
    assert from_json(ServingPolicy, to_json(policy)) == policy
    later = to_json(policy).replace('"late_ppm"', '"apdex":3,"late_ppm"')
    assert from_json(ServingPolicy, later, newer=True) == policy


@pytest.mark.parametrize(
    ("slo", "text"),
    [
        (Slo(250, 10_000, 1_000), "99 % within 250 ms, errors up to 0.1 %"),
        (Slo(1, 50), "99.995 % within 1 ms"),
        (Slo(error_ppm=100_000), "errors up to 10 %"),
    ],
)
def test_an_slo_that_can_be_judged(slo: Slo, text: str) -> None:
    assert (slo.problem, str(slo)) == ("", text)


@pytest.mark.parametrize(
    ("slo", "problem"),
    [
        (Slo(), "an SLO needs a latency target, an error target, or both"),
        (Slo(0, 10_000), "an SLO needs a latency target, an error target, or both"),
        (Slo(170, 10_000), "times are not counted by 170 ms; the nearest latency target is 150 or 200 ms"),
        (Slo(-5, 10_000), "times are not counted by -5 ms; the nearest latency target is 1 ms"),
        (Slo(70_000, 10_000), "times are not counted by 70000 ms; the nearest latency target is 60000 ms"),
        (Slo(250), "the share of answers in time is 0.9 to 0.99999, not 1"),
        (Slo(250, 200_000), "the share of answers in time is 0.9 to 0.99999, not 0.8"),
        (Slo(error_ppm=5), "the share of errors is 0.00001 to 0.1, not 5e-06"),
        (Slo(250, 10_000, 500_000), "the share of errors is 0.00001 to 0.1, not 0.5"),
    ],
)
def test_an_slo_that_cannot_be_judged_says_why(slo: Slo, problem: str) -> None:
    assert slo.problem == problem


def test_a_breaker_says_until_when_it_is_open() -> None:
    breaker = Breaker("digits", "v1.0.0", "open", "20 of 20 rows failed", 5_000_000, 15_000_000)
    assert breaker.until_us == 20_000_000
    assert from_json(Breaker, to_json(breaker)) == breaker

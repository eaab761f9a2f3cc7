"""Serving policy and breaker: what stands in memory."""

from __future__ import annotations

from schemas.serving import Breaker, ServingPolicy
from streams.canonical import from_json, to_json


def test_a_policy_of_an_older_release_has_the_defaults() -> None:
    assert from_json(ServingPolicy, '{"model":"digits"}') == ServingPolicy("digits", (), 2, False, True)


def test_a_breaker_says_until_when_it_is_open() -> None:
    breaker = Breaker("digits", "v1.0.0", "open", "20 of 20 rows failed", 5_000_000, 15_000_000)
    assert breaker.until_us == 20_000_000
    assert from_json(Breaker, to_json(breaker)) == breaker

"""How a model is served is put back to what proved itself; what it promises, and who may act, stay."""

from __future__ import annotations

from typing import Any

import pytest

from agents.configuration import policy_changes, put_back, standing
from agents.verdict import Change, State, Value
from schemas.cache import CachePolicy
from schemas.known_good import Configuration
from schemas.serving import Breaker, ServingPolicy, Slo
from streams.canonical import from_json, to_json

SLO = Slo(error_ppm=1_000)
OPEN = Breaker("digits", "v1.0.0", "open", "bad", 5, 1_000_000)


def memory(**bodies: Any) -> State:
    """Memory with these values of the model: ``serving``, ``cache``, ``breaker``."""
    keys = {"serving": "serving/digits", "cache": "cache/digits", "breaker": "breaker/digits/v1.0.0"}
    return State(values={keys[name]: Value(1, to_json(body)) for name, body in bodies.items()})


def read(change: Change) -> Any:
    kind = ServingPolicy if change.key.startswith("serving/") else CachePolicy
    return from_json(kind, change.body or "")


def test_what_stands_is_read_from_memory() -> None:
    assert standing(State(), "digits") == Configuration()
    policy, cache = ServingPolicy("digits", hedge=True), CachePolicy("digits", True, 3, 60)
    assert standing(memory(serving=policy, cache=cache), "digits") == Configuration(policy, cache)


@pytest.mark.parametrize(
    "good",
    [
        Configuration(),
        Configuration(ServingPolicy("digits")),
        Configuration(ServingPolicy("digits", slo=Slo(latency_ms=100, late_ppm=500), auto_rollback=False)),
        Configuration(cache=CachePolicy("digits", False, 9, 5)),
    ],
)
def test_where_rows_are_served_alike_nothing_is_put_back(good: Configuration) -> None:
    assert put_back(memory(serving=ServingPolicy("digits", slo=SLO)), "digits", good) == ()


def test_a_promise_is_never_put_back_nor_who_may_act() -> None:
    now = ServingPolicy("digits", max_attempts=1, hedge=True, slo=SLO, auto_rollback=True)
    good = ServingPolicy("digits", fallbacks=("v1.0.0",), max_attempts=3, slo=None, auto_rollback=False)
    (change,) = put_back(memory(serving=now), "digits", Configuration(good))
    assert (change.kind, change.key) == ("ServingPolicySet", "serving/digits")
    assert read(change) == ServingPolicy("digits", ("v1.0.0",), 3, slo=SLO, auto_rollback=True)


def test_what_was_never_set_comes_back_as_the_defaults() -> None:
    (change,) = put_back(memory(serving=ServingPolicy("digits", max_attempts=1, slo=SLO)), "digits", Configuration())
    assert read(change) == ServingPolicy("digits", slo=SLO)


def test_a_policy_without_breakers_closes_those_that_are_open() -> None:
    state = memory(serving=ServingPolicy("digits", max_attempts=1), breaker=OPEN)
    good = ServingPolicy("digits", breaker=False)
    assert [each.kind for each in put_back(state, "digits", Configuration(good))] == [
        *("ServingPolicySet", "BreakerClosed")
    ]
    assert len(policy_changes(state, ServingPolicy("digits"))) == 1


@pytest.mark.parametrize(
    ("now", "good", "after"),
    [
        (CachePolicy("digits", True, 3, 600), CachePolicy("digits", True, 1, 60), CachePolicy("digits", True, 4, 60)),
        (CachePolicy("digits", True, 3, 600), None, CachePolicy("digits", False, 4, 600)),
        (CachePolicy("digits", False, 3, 600), CachePolicy("digits", True, 1, 60), CachePolicy("digits", True, 4, 60)),
        (None, CachePolicy("digits", True, 1, 60), CachePolicy("digits", True, 1, 60)),
        (CachePolicy("digits", True, 3, 60), CachePolicy("digits", True, 1, 60), None),
    ],
)
def test_the_cache_comes_back_in_an_epoch_of_its_own(
    now: CachePolicy | None, good: CachePolicy | None, after: CachePolicy | None
) -> None:
    state = State() if now is None else memory(cache=now)
    changes = put_back(state, "digits", Configuration(cache=good))
    assert [(each.kind, read(each)) for each in changes] == ([] if after is None else [("CachePolicySet", after)])

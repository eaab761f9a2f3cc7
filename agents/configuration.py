"""The configuration of a model: how it is served beside its version, as it stands, and put back to what proved itself.

What the Orchestrator's rules do with ``schemas.known_good.Configuration``. Put back is how rows are served: fallbacks,
tries, hedging, breakers, whether answers are cached. What a model promises (its SLO) and whether it may be rolled back
without a person stay as they are: a yardstick that burns is not cured by taking it away. So do the scaling policy,
which is a pool's and follows its load, and the rules of ``rules.toml``, which are not the model's to leave. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from agents.verdict import Change, State, keys_below
from schemas.cache import CachePolicy
from schemas.known_good import Configuration
from schemas.serving import ServingPolicy
from streams.canonical import from_json, to_json

_T = TypeVar("_T")


def standing(state: State, model: str) -> Configuration:
    """How a model is served now."""
    return Configuration(_body(state, f"serving/{model}", ServingPolicy), _body(state, f"cache/{model}", CachePolicy))


def put_back(state: State, model: str, good: Configuration) -> tuple[Change, ...]:
    """What makes a model be served as in ``good`` again; nothing where it is."""
    now = standing(state, model)
    differing = good.differences(now)
    changes: tuple[Change, ...] = ()
    if any(name != "cache" for name in differing):
        promised, wanted = now.serving or ServingPolicy(model), good.serving or ServingPolicy(model)
        changes += policy_changes(
            state, replace(wanted, slo=promised.slo, auto_rollback=promised.auto_rollback, model=model)
        )
    if "cache" in differing:
        changes += (Change("CachePolicySet", f"cache/{model}", to_json(_cached(model, now.cache, good.cache))),)
    return changes


def policy_changes(state: State, policy: ServingPolicy) -> tuple[Change, ...]:
    """A serving policy in force; one without breakers closes those that are open."""
    changes = (Change("ServingPolicySet", f"serving/{policy.model}", to_json(policy)),)
    if policy.breaker:
        return changes
    return (*changes, *(Change("BreakerClosed", key, None) for key in keys_below(state, f"breaker/{policy.model}/")))


def _cached(model: str, now: CachePolicy | None, good: CachePolicy | None) -> CachePolicy:
    """The cache as it was, in an epoch of its own: nothing that was cached meanwhile is served."""
    epoch = 1 if now is None else now.epoch + 1
    if good is None or not good.enabled:
        return CachePolicy(model, False, epoch, 1 if now is None else now.ttl_s)
    return CachePolicy(model, True, epoch, good.ttl_s)


def _body(state: State, key: str, kind: type[_T]) -> _T | None:
    value = state.values.get(key)
    return None if value is None else from_json(kind, value.body, newer=True)

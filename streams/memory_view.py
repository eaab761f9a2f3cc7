"""Memory as a value: all keys as of a sequence, and readers by key; ``streams.memory_fold`` makes it of the events.

Keys: ``model/<name>/<version>`` (ModelVersion), ``active/<name>`` (ActiveVersion), ``plan/<name>`` (Plan),
``canary/<name>`` (Canary), ``cache/<name>`` (CachePolicy), ``serving/<name>`` (ServingPolicy),
``breaker/<name>/<version>`` (Breaker), ``golden/<name>`` (GoldenSet), ``good/<name>`` (KnownGood), ``rollback/<name>``
(Rollback), ``incident/<id>`` (Incident), ``context/<id>`` (ContextSignal), ``rejections/<command id>`` (Rejection),
``replicas/<pool>`` (Replicas), ``scaling/<pool>`` (ScalingPolicy), ``vertical/<model>`` (BatchBound),
``reference/<name>/<version>`` (Reference, see ``streams.references``), ``shadow/<name>`` (ShadowPolicy, see
``streams.shadow_view``). Those of approvals: ``streams.review_view``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from schemas.cache import CachePolicy
from schemas.canary import Canary
from schemas.check import GoldenSet
from schemas.known_good import KnownGood, Rollback
from schemas.memory import MemoryEntry
from schemas.model import ModelVersion
from schemas.plan import Plan
from schemas.scaling import BatchBound, Replicas, ScalingPolicy
from schemas.serving import Breaker, ServingPolicy
from streams.cache.keys import CacheScope, scope_of
from streams.canonical import from_json

ZERO_HASH: Final = bytes(32)
_NO_BREAKERS: Final[Mapping[str, Breaker]] = MappingProxyType({})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ActiveVersion:
    """Body of ``active/<name>``: the version that serves unless a plan says otherwise."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Incident:
    """Body of ``incident/<id>``: an open incident; its resolution removes the key."""

    incident_id: str
    kind: str
    subject: str
    severity: str
    message: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Body of ``rejections/<command id>``: why a command was refused, as a code and a sentence."""

    command_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MemoryHead:
    """The end of the accepted chain: last sequence and the SHA-256 of that event's stored value."""

    sequence: int = 0
    last_hash: bytes = ZERO_HASH


@dataclass(frozen=True, slots=True)
class MemoryView:
    """All keys as of ``sequence``; ``time_us`` is the time of that event. Never written in place."""

    sequence: int = 0
    last_hash: bytes = ZERO_HASH
    time_us: int = 0
    entries: Mapping[str, MemoryEntry] = field(default_factory=lambda: MappingProxyType({}))
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def head(self) -> MemoryHead:
        """Where the next event must follow."""
        return MemoryHead(self.sequence, self.last_hash)


def models(view: MemoryView) -> Mapping[str, tuple[ModelVersion, ...]]:
    """Registered versions per model, in the order of their registration."""
    return _cached(view, "models", lambda: _models(view))


def model_version(view: MemoryView, model: str, version: str) -> ModelVersion | None:
    """A registered version, or None."""
    return _typed(view, f"model/{model}/{version}", ModelVersion)


def plan(view: MemoryView, model: str) -> Plan | None:
    """The effective plan of a model, or None."""
    return _typed(view, f"plan/{model}", Plan)


def canary(view: MemoryView, model: str) -> Canary | None:
    """The version that is to serve a share of a model's rows beside the active one, or None."""
    found = _typed(view, f"canary/{model}", Canary)
    return found if found is not None and found.weight_percent else None


def cache_policy(view: MemoryView, model: str) -> CachePolicy | None:
    """Whether and how a model's answers are cached, or None."""
    return _typed(view, f"cache/{model}", CachePolicy)


def cached_models(view: MemoryView) -> frozenset[str]:
    """Models whose answers are cached."""
    policies = "cache/"
    return _cached(
        view, policies, lambda: frozenset(p.model for p in _bodies(view, policies, CachePolicy) if p.enabled)
    )


def cache_scope(view: MemoryView, model: str, version: str) -> CacheScope | None:
    """What a version's answers are cached under; None where they are not: by policy, not deterministic or ordered."""
    return _cached(view, ("cache", model, version), lambda: _cache_scope(view, model, version))


def golden_set(view: MemoryView, model: str) -> GoldenSet | None:
    """What a model's versions are checked by, or None."""
    return _typed(view, f"golden/{model}", GoldenSet)


def serving_policy(view: MemoryView, model: str) -> ServingPolicy | None:
    """What an operator set for a model, or None."""
    return _typed(view, f"serving/{model}", ServingPolicy)


def breakers(view: MemoryView, model: str) -> Mapping[str, Breaker]:
    """The breakers of a model that are not closed, by version; hardly ever there are any."""
    return all_breakers(view).get(model, _NO_BREAKERS)


def all_breakers(view: MemoryView) -> Mapping[str, Mapping[str, Breaker]]:
    """Breakers that are not closed, by model and version."""
    return _cached(view, "breakers", lambda: _breakers(view))


def ordered_models(view: MemoryView) -> frozenset[str]:
    """Models whose results keep the order of a routing key: by the manifest of a version that is active or planned.

    Where nothing is active or planned yet, by that of any registered one.
    """
    return _cached(view, "ordered", lambda: frozenset(name for name in models(view) if _is_ordered(view, name)))


def active_version(view: MemoryView, model: str) -> str | None:
    """The active version of a model, or None."""
    active = _typed(view, f"active/{model}", ActiveVersion)
    return None if active is None else active.version


def known_good(view: MemoryView, model: str) -> KnownGood | None:
    """The versions of a model that proved themselves, or None."""
    return _typed(view, f"good/{model}", KnownGood)


def last_rollback(view: MemoryView, model: str) -> Rollback | None:
    """The last roll-back of a model that no person asked for, or None."""
    return _typed(view, f"rollback/{model}", Rollback)


def rejection(view: MemoryView, command_id: str) -> Rejection | None:
    """Why a command was refused, or None if it was not (or so long ago that it was forgotten)."""
    return _typed(view, f"rejections/{command_id}", Rejection)


def scaling_policy(view: MemoryView, pool: str) -> ScalingPolicy | None:
    """Within what the Scaler moves a pool, or None: it is held."""
    return _typed(view, f"scaling/{pool}", ScalingPolicy)


def batch_bound(view: MemoryView, model: str) -> int:
    """Items of the largest batch of a model, or 0: as executors make them."""
    found = _typed(view, f"vertical/{model}", BatchBound)
    return 0 if found is None else found.max_items


def replicas(view: MemoryView, pool: str) -> Replicas | None:
    """How many executors of a pool are ready, as its supervisor noted last; None where it never did."""
    return _typed(view, f"replicas/{pool}", Replicas)


def incidents(view: MemoryView) -> tuple[Incident, ...]:
    """Open incidents in the order in which they were raised."""
    return _cached(view, "incidents", lambda: tuple(_bodies(view, "incident/", Incident)))


def derived(view: MemoryView, key: tuple[Any, ...], make: Callable[[], _T]) -> _T:
    """What a reader made of the view under ``key`` the first time; the same object ever after, gone with the view."""
    return _cached(view, key, make)


def _is_ordered(view: MemoryView, model: str) -> bool:
    ordered = {facts.version for facts in models(view)[model] if facts.ordered}
    if not ordered:
        return False
    effective = plan(view, model)
    serving = {share.version for share in effective.versions} if effective is not None else set()
    active = active_version(view, model)
    if active is not None:
        serving.add(active)
    return not serving or not ordered.isdisjoint(serving)


def _cache_scope(view: MemoryView, model: str, version: str) -> CacheScope | None:
    policy, facts = cache_policy(view, model), model_version(view, model, version)
    if policy is None or not policy.enabled or facts is None or not facts.deterministic:
        return None
    if model in ordered_models(view):
        return None  # an answer at once would pass the rows of its key that are under way
    since = view.entries[f"cache/{model}"].sequence
    return CacheScope(scope_of(facts, policy.epoch), policy.ttl_s * 1_000_000, since)


def _models(view: MemoryView) -> Mapping[str, tuple[ModelVersion, ...]]:
    found: dict[str, tuple[ModelVersion, ...]] = {}
    for version in _bodies(view, "model/", ModelVersion):
        found[version.model] = (*found.get(version.model, ()), version)
    return MappingProxyType(found)


def _breakers(view: MemoryView) -> Mapping[str, Mapping[str, Breaker]]:
    found: dict[str, dict[str, Breaker]] = {}
    for each in _bodies(view, "breaker/", Breaker):
        found.setdefault(each.model, {})[each.version] = each
    return found


def _bodies(view: MemoryView, prefix: str, cls: type[_T]) -> Iterable[_T]:
    entries = sorted((e for e in view.entries.values() if e.key.startswith(prefix)), key=lambda entry: entry.sequence)
    return (from_json(cls, entry.body, newer=True) for entry in entries)


def _typed(view: MemoryView, key: str, cls: type[_T]) -> _T | None:
    entry = view.entries.get(key)
    return None if entry is None else _cached(view, key, lambda: from_json(cls, entry.body, newer=True))


def _cached(view: MemoryView, key: Any, compute: Callable[[], _T]) -> _T:
    found: _T
    if key in view._cache:
        found = view._cache[key]
    else:
        found = view._cache[key] = compute()
    return found

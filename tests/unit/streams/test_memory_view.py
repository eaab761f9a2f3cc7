"""Memory by its typed readers."""

from __future__ import annotations

from dataclasses import replace

from schemas.cache import CachePolicy
from schemas.canary import Canary
from schemas.model import ModelVersion
from schemas.plan import Plan, VersionWeight
from streams import memory_view as mv
from streams.cache.keys import scope_of
from streams.canonical import to_json
from streams.memory_fold import at_sequence, extend
from tests.unit.streams.test_memory_fold import chain


def model(version: str) -> ModelVersion:
    return ModelVersion("digits", version, "ab" * 32, 10, (), ())


def test_typed_readers() -> None:
    plan = Plan("digits", (VersionWeight("v1.0.0", 100),), 128, 30_000)
    incident = mv.Incident("i1", "process_silent", "router-0", "critical", "m", "e")
    view, voids = extend(
        mv.MemoryView(),
        chain(
            ("model/digits/v2.0.0", to_json(model("v2.0.0"))),
            ("model/digits/v1.0.0", to_json(model("v1.0.0"))),
            ("active/digits", to_json(mv.ActiveVersion("digits", "v2.0.0"))),
            ("plan/digits", to_json(plan)),
            ("incident/i1", to_json(incident)),
            ("rejections/c9", to_json(mv.Rejection("c9", "unknown_model", "No."))),
        ),
    )
    assert voids == ()
    assert mv.models(view) == {"digits": (model("v2.0.0"), model("v1.0.0"))}
    assert mv.models(view) is mv.models(view)
    assert mv.model_version(view, "digits", "v1.0.0") == model("v1.0.0")
    assert mv.model_version(view, "digits", "v3.0.0") is None
    assert mv.active_version(view, "digits") == "v2.0.0"
    assert mv.active_version(view, "other") is None
    assert mv.plan(view, "digits") == plan
    assert mv.plan(view, "digits") is mv.plan(view, "digits")
    assert mv.incidents(view) == (incident,)
    assert mv.rejection(view, "c9") == mv.Rejection("c9", "unknown_model", "No.")


def test_a_canary_without_a_share_is_none() -> None:
    found = Canary("digits", "v2.0.0", 5)
    events = chain(
        ("model/digits/v1.0.0", to_json(model("v1.0.0"))),
        ("canary/digits", to_json(found)),
        ("canary/digits", to_json(replace(found, weight_percent=0))),
    )
    views = [at_sequence(events, sequence) for sequence in (1, 2, 3)]
    assert [mv.canary(view, "digits") for view in views] == [None, found, None]


def test_what_a_version_is_cached_under() -> None:
    """Nothing without a policy, by a policy that says so, for an unknown version, or for one that draws lots."""
    policy, lots = CachePolicy("digits", True, 1, 60), replace(model("v2.0.0"), deterministic=False)
    events = chain(
        ("model/digits/v1.0.0", to_json(model("v1.0.0"))),
        ("model/digits/v2.0.0", to_json(lots)),
        ("cache/digits", to_json(policy)),
        ("cache/digits", to_json(replace(policy, epoch=2))),
        ("cache/digits", to_json(replace(policy, epoch=2, enabled=False))),
    )
    before, first, second, disabled = (at_sequence(events, sequence) for sequence in (2, 3, 4, 5))
    assert (mv.cached_models(before), mv.cache_scope(before, "digits", "v1.0.0")) == (frozenset(), None)
    assert (mv.cached_models(disabled), mv.cache_scope(disabled, "digits", "v1.0.0")) == (frozenset(), None)
    assert mv.cache_policy(first, "digits") == policy
    assert mv.cached_models(first) == {"digits"}
    one, two = (mv.cache_scope(view, "digits", "v1.0.0") for view in (first, second))
    assert one is not None
    assert two is not None
    assert (one.ttl_us, one.since, two.since) == (60_000_000, 3, 4)
    assert one.scope == scope_of(model("v1.0.0"), 1) != two.scope
    assert mv.cache_scope(first, "digits", "v2.0.0") is None
    assert mv.cache_scope(first, "digits", "v3.0.0") is None
    assert mv.cache_scope(first, "letters", "v1.0.0") is None

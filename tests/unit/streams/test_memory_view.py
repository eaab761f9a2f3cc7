"""The fold of memory: the chain decides what counts, readers are typed, any past point can be had again."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from schemas.cache import CachePolicy
from schemas.canary import Canary
from schemas.memory import MemoryEntry, MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import Plan, VersionWeight
from streams import memory_view as mv
from streams.cache.keys import scope_of
from streams.canonical import to_json


def stored(event: MemoryEvent) -> bytes:
    return to_json(event).encode()


def chain(*changes: tuple[str, str | None]) -> list[mv.StoredEvent]:
    """Events that follow each other, 10 us apart from 10 us on."""
    events: list[mv.StoredEvent] = []
    versions: dict[str, int] = {}
    last = mv.ZERO_HASH
    for number, (key, body) in enumerate(changes, start=1):
        versions[key] = versions.get(key, 0) + 1
        event = MemoryEvent(number, last, f"c{number}", "test", "Set", key, versions[key], body, "", (), number * 10)
        events.append(mv.StoredEvent.of(event, stored(event)))
        last = events[-1].value_hash
    return events


def model(version: str) -> ModelVersion:
    return ModelVersion("digits", version, "ab" * 32, 10, (), ())


def test_apply_accepts_what_follows() -> None:
    (first,) = chain(("k", "1"))
    view, reason = mv.apply(mv.MemoryView(), first.event, stored(first.event))
    assert reason is None
    assert view.head == mv.MemoryHead(1, hashlib.sha256(stored(first.event)).digest())
    assert dict(view.entries) == {"k": MemoryEntry("k", 1, 1, "1", 10)}


def test_apply_voids_what_does_not_follow() -> None:
    first, second = chain(("k", "1"), ("k", "2"))
    view, _ = mv.apply(mv.MemoryView(), first.event, stored(first.event))
    for wrong, why in (
        (first.event, "sequence 1 does not follow 1"),
        (replace(second.event, sequence=4), "sequence 4 does not follow 1"),
        (replace(second.event, prev_hash=bytes(32)), "prev_hash of sequence 2 is not the hash of the event before it"),
    ):
        assert mv.apply(view, wrong, stored(wrong)) == (view, why)
    assert mv.apply(view, second.event, stored(second.event))[0].entries["k"].body == "2"


def test_removal_and_points_in_the_past() -> None:
    events = chain(("a", "1"), ("b", "2"), ("a", None))
    forged = replace(events[0].event, sequence=2, prev_hash=b"x" * 32, time_us=10_000)
    with_forgery = [events[0], mv.StoredEvent.of(forged, stored(forged)), *events[1:]]
    assert dict(mv.extend(mv.MemoryView(), with_forgery)[0].entries) == {"b": MemoryEntry("b", 1, 2, "2", 20)}
    assert set(mv.at_sequence(with_forgery, 2).entries) == {"a", "b"}
    assert set(mv.at_time(with_forgery, 29).entries) == {"a", "b"}
    assert set(mv.at_time(with_forgery, 30).entries) == {"b"}
    assert mv.at_time(events, 9) == mv.MemoryView()
    assert mv.at_sequence(events, 99).sequence == 3


def test_typed_readers() -> None:
    plan = Plan("digits", (VersionWeight("v1.0.0", 100),), 128, 30_000)
    incident = mv.Incident("i1", "process_silent", "router-0", "critical", "m", "e")
    view, voids = mv.extend(
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


changes = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.text(max_size=3)), max_size=30)


@given(changes, st.lists(st.integers(0, 30), max_size=10))
def test_duplicates_never_change_the_fold(made: list[tuple[str, str | None]], repeats: list[int]) -> None:
    events = chain(*made)
    noisy = list(events)
    for at in repeats:
        if at < len(events):
            noisy.insert(noisy.index(events[at]) + 1, events[at])
    clean, voids = mv.extend(mv.MemoryView(), events)
    assert voids == ()
    assert mv.extend(mv.MemoryView(), noisy)[0] == clean


@given(changes, st.integers(0, 30))
def test_folding_in_parts_is_folding_at_once(made: list[tuple[str, str | None]], cut: int) -> None:
    events = chain(*made)
    part, _ = mv.extend(mv.MemoryView(), events[:cut])
    assert part == mv.at_sequence(events, cut)
    assert mv.extend(part, events[cut:])[0] == mv.extend(mv.MemoryView(), events)[0]


def test_a_canary_without_a_share_is_none() -> None:
    found = Canary("digits", "v2.0.0", 5)
    events = chain(
        ("model/digits/v1.0.0", to_json(model("v1.0.0"))),
        ("canary/digits", to_json(found)),
        ("canary/digits", to_json(replace(found, weight_percent=0))),
    )
    views = [mv.at_sequence(events, sequence) for sequence in (1, 2, 3)]
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
    before, first, second, disabled = (mv.at_sequence(events, sequence) for sequence in (2, 3, 4, 5))
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

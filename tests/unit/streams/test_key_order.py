"""Which rows have an order, and the lane that keeps it."""

from __future__ import annotations

from dataclasses import replace

from schemas.cache import CachePolicy
from streams.columns import ERROR, REJECTED, Columns, end_rows
from streams.key_order import (
    EVERY_MODEL,
    ended_before,
    has_ended_rows,
    has_models,
    keyed_rows,
    lane_of_key,
    ordered_as_of,
)
from streams.memory_view import ActiveVersion, cache_scope, ordered_models
from tests.support.frames import MODEL, frame, memory, plan, row

ORDERED = replace(MODEL, ordered=True)


def test_a_model_is_ordered_by_what_serves_it() -> None:
    later = replace(MODEL, version="v2.0.0")
    assert ordered_models(memory(MODEL, later)) == frozenset()
    assert ordered_models(memory(ORDERED, later)) == {"digits"}
    assert ordered_models(memory(ORDERED, later, ActiveVersion("digits", "v2.0.0"))) == frozenset()
    assert ordered_models(memory(ORDERED, later, ActiveVersion("digits", "v1.0.0"))) == {"digits"}
    both = plan("digits", ("v1.0.0", 10), ("v2.0.0", 90))
    assert ordered_models(memory(ORDERED, later, ActiveVersion("digits", "v2.0.0"), both)) == {"digits"}


def test_answers_of_an_ordered_model_are_not_cached() -> None:
    policy = CachePolicy("digits", True, 1, 60)
    assert cache_scope(memory(MODEL, policy), "digits", "v1.0.0") is not None
    assert cache_scope(memory(ORDERED, policy), "digits", "v1.0.0") is None


def test_where_memory_is_behind_any_model_may_be_ordered() -> None:
    view = memory(ORDERED, sequence=40)
    assert ordered_as_of(view, 40) == {"digits"}
    assert ordered_as_of(view, 41) is EVERY_MODEL
    assert "whatever" in EVERY_MODEL
    assert bool(EVERY_MODEL)


def test_rows_with_a_key_of_an_ordered_model_have_an_order() -> None:
    made = frame([row(0, routing_key="a"), row(1), row(2, model="mlp", routing_key="a")])
    assert keyed_rows(made, {"digits"}).tolist() == [True, False, False]
    assert keyed_rows(made, EVERY_MODEL).tolist() == [True, False, True]
    assert has_models(made, {"mlp"})
    assert not has_models(made, {"other"})
    assert not has_ended_rows(made)
    assert has_ended_rows(end_rows(made, ERROR, ()))


def test_rows_that_ended_before_are_parted_from_those_to_be_routed() -> None:
    made = frame([row(0, model="nobody"), row(1), row(2)])
    assert ended_before(made) == (made, None)
    left, ended = ended_before(replace(made, statuses=bytes([REJECTED, 0, 0])))
    assert left is not None
    assert ended is not None
    assert ([each.model for each in left.segments], Columns.of(left).offsets.tolist()) == (["digits"], [1, 2])
    assert ([each.model for each in ended.segments], Columns.of(ended).offsets.tolist()) == (["nobody"], [0])
    assert ended_before(end_rows(made, ERROR, ()))[0] is None


def test_keys_spread_over_the_fast_lanes_and_stay_where_they_are() -> None:
    lanes = {key: lane_of_key("digits", key.encode(), 5, 2) for key in map(str, range(200))}
    assert set(lanes.values()) == {0, 1, 2}
    assert lanes == {key: lane_of_key("digits", key.encode(), 5, 2) for key in lanes}
    assert [lane_of_key("other", key.encode(), 5, 2) for key in lanes] != list(lanes.values())
    assert lane_of_key("digits", b"k", 1, 0) == 0

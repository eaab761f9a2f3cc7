"""Rows of ordered models leave the Router in the lanes of their keys, in order, ended ones too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.ordering import in_order, passed_on
from agents.router import RouterParams, RouterState, decide
from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, RowError
from streams.agent import Event
from streams.codec import Codec, SchemaIds
from streams.columns import EXPIRED, PENDING, Columns, num_rows, routing_keys, segment_starts
from streams.frame_builder import FrameBuilder, Row
from streams.frame_check import fault_of
from streams.frame_effects import Defer, SendFrame
from streams.key_order import ended_before, lane_of_key
from tests.support.frames import MODEL, TOPIC_ID, T, frame, memory, plan, row

ORDERED = replace(MODEL, ordered=True)
LATER = replace(ORDERED, version="v2.0.0")
PLAIN = replace(MODEL, model="plain")
PLAN, OTHER = plan("digits", ("v1.0.0", 50), ("v2.0.0", 50), lane=1), plan("plain", ("v1.0.0", 100), lane=2)
VIEW = memory(ORDERED, LATER, PLAIN, PLAN, OTHER)
LANES = 3
PLACE = RecordCoordinate("inference.admitted", 1, 5)
CODEC = Codec(SchemaIds.local())


def routed(made: InferenceFrame, view: Any = VIEW, now_us: int = T) -> list[SendFrame]:
    _, effects = decide(RouterState(), Event(made, PLACE, now_us, answers=view), RouterParams(num_lanes=LANES))
    sent = [each for each in effects if isinstance(each, SendFrame)]
    for each in sent:
        assert fault_of(each.frame) == ""
        assert CODEC.decode(each.topic, CODEC.encode(each.topic, each.frame)) == each.frame
    return sent


def rows_of(sent: SendFrame) -> list[tuple[int, str, str, bytes, int]]:
    """Offset, model, version, key and status of each row, in the order they stand in."""
    found = []
    columns, keys, starts = Columns.of(sent.frame), routing_keys(sent.frame), segment_starts(sent.frame)
    for number, segment in enumerate(sent.frame.segments):
        for at in range(starts[number], starts[number + 1]):
            each = int(columns.offsets[at]), segment.model, segment.version, keys[at], int(columns.statuses[at])
            found.append(each)
    return found


each_row = st.tuples(
    st.sampled_from(("digits", "digits", "plain")), st.sampled_from(("", "", "v1.0.0", "v2.0.0")),
    st.sampled_from(("", "a", "b", "c")), st.integers(1, 3), st.integers(0, 9),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(each_row, min_size=1, max_size=16))
def test_every_row_goes_once_and_those_of_a_key_in_order_to_its_lane(columns: list[Any]) -> None:
    builder = FrameBuilder(TOPIC_ID, 1)
    for offset, (model, version, key, items, what) in enumerate(columns):
        each = row(offset, model=model, version=version, routing_key=key, items=items)
        if what == 0:
            each.deadline_us = T - 1
        if what == 1 and key and model == "digits":
            refuse(each)
        builder.add(each)
    (made,) = builder.build(7, T, 3, {"digits"})
    seen: list[int] = []
    last: dict[tuple[int, bytes], int] = {}
    for sent in routed(made):
        for offset, model, version, key, status in rows_of(sent):
            seen.append(offset)
            if model != "digits" or not key:
                assert sent.partition == {"plain": 2, "digits": 1}[model] or sent.topic == "inference.executed"
                continue
            assert (sent.topic, sent.partition) == ("inference.routed", lane_of_key("digits", key, LANES, 0))
            if status == PENDING:
                assert version in ("v1.0.0", "v2.0.0")
                assert last.get((sent.partition, key), -1) < offset
                last[sent.partition, key] = offset
    assert sorted(seen) == list(range(len(columns)))


def refuse(made: Row) -> None:
    made.status, made.error = 3, RowError(0, "quota_exceeded", "too much", 5)
    made.items, made.blocks = 0, ()


def test_a_row_that_ended_travels_on_with_its_error() -> None:
    ended = row(4, routing_key="a")
    refuse(ended)
    sent = routed(frame([row(3, routing_key="a"), ended]))
    assert [each.topic for each in sent] == ["inference.routed"] * 2
    first = next(each.frame for each in sent if num_rows(each.frame) == 1 and each.frame.statuses == b"\x03")
    assert (first.errors[0].code, first.errors[0].retry_after_ms, first.routed_us) == ("quota_exceeded", 5, T)
    assert first.memory_sequence == VIEW.sequence


def test_what_the_router_ends_travels_on_too_and_what_has_no_key_ends() -> None:
    keyed = row(0, routing_key="a", deadline_us=T - 1)
    (sent,) = routed(frame([keyed]))
    assert (sent.topic, sent.partition) == ("inference.routed", lane_of_key("digits", b"a", LANES, 0))
    assert (list(sent.frame.statuses), sent.frame.errors[0].code) == ([EXPIRED], "deadline_exceeded")
    (sent,) = routed(frame([row(0, deadline_us=T - 1)]))
    assert (sent.topic, sent.partition) == ("inference.executed", 1)


def test_an_ended_row_without_a_key_is_not_passed_on() -> None:
    ended = row(4)
    refuse(ended)
    left, before = ended_before(frame([ended]))
    assert left is None
    assert before is not None
    assert [(each.topic, each.partition) for each in passed_on(before, VIEW, T, LANES, 0)] == [
        ("inference.executed", 1)
    ]


def test_a_model_that_memory_does_not_know_yet_may_be_ordered() -> None:
    late = replace(frame([row(0, model="new", routing_key="a", deadline_us=T - 1)]), memory_sequence=VIEW.sequence + 1)
    (sent,) = routed(late)
    assert (sent.topic, sent.partition) == ("inference.routed", lane_of_key("new", b"a", LANES, 0))
    (sent,) = routed(replace(late, memory_sequence=VIEW.sequence))
    assert sent.topic == "inference.executed"


def test_without_ordered_models_effects_are_left_alone() -> None:
    view = memory(MODEL, plan("digits", ("v1.0.0", 100)))
    made = frame([row(0, routing_key="a")])
    effects = (SendFrame("inference.routed", 0, made), Defer(made, T))
    assert in_order(made, effects, view, LANES, 0) == effects
    assert in_order(made, effects, VIEW, LANES, 0)[1] == effects[1]

"""A noted decision is derived again from the note and memory alone, and a changed one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agents.route
from agents.router import RouterParams
from agents.routing_decision import DEFERRED
from agents.routing_replay import differs
from schemas.decision import RoutingDecision
from schemas.frame import InferenceFrame
from schemas.memory import MemoryEntry
from schemas.serving import Breaker
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.decision_notes import ADMITTED, DecisionNotes
from streams.memory_view import MemoryView
from tests.support.frames import MODEL, T, frame, memory, plan, random_frame, row
from tests.support.shadowed import shadowed
from tests.unit.agents.test_router import PLANNED
from tests.unit.agents.test_routing_decision import EVERY, noted

CODEC = Codec(SchemaIds.local())
BROKEN = Breaker("digits", "v1.0.0", "open", "it fails", T, 1_000_000)


def with_breaker(view: MemoryView) -> MemoryView:
    key = "breaker/digits/v1.0.0"
    return replace(view, entries={**view.entries, key: MemoryEntry(key, 1, 40, to_json(BROKEN), T)})


VIEWS = {
    "planned": PLANNED,
    "weighted": memory(plan("digits", ("v1.0.0", 40), ("v2.0.0", 60)), plan("mlp-a", ("v1.0.0", 100)), sequence=41),
    "ordered": memory(replace(MODEL, ordered=True), plan("digits", ("v1.0.0", 100)), sequence=41),
    "behind": replace(PLANNED, sequence=1),
    "broken": with_breaker(PLANNED),
    "shadowed": shadowed(60),
    "nothing planned": memory(sequence=41),
}


def decision(
    made: InferenceFrame, view: MemoryView, params: RouterParams = EVERY
) -> tuple[RoutingDecision, InferenceFrame] | None:
    """The record of a decision as it stands on the log, and the frame in it."""
    _, notes = noted(made, view)
    kept = DecisionNotes(0, CODEC, params)
    for each in notes:
        kept.add(each)
    for _, record in kept.close(T):
        return record, CODEC.decode(ADMITTED, record.frame)
    return None


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
@given(seed=st.integers(0, 10_000))
def test_every_decision_is_derived_again(view: MemoryView, seed: int) -> None:
    kept = decision(random_frame(seed, blobs=True), view)
    if kept is not None:
        assert differs(*kept, view) is None


def test_late_rows_end_again() -> None:
    made = frame([row(1, deadline_us=T), row(2)])
    kept = decision(made, PLANNED)
    assert kept is not None
    assert {rows.topic for rows in kept[0].rows} == {"inference.executed", "inference.routed"}
    assert differs(*kept, PLANNED) is None


def test_another_memory_is_another_decision_and_says_so() -> None:
    kept = decision(frame([row(1), row(2)]), PLANNED)
    assert kept is not None
    found = differs(*kept, memory(plan("digits", ("v2.0.0", 100), lane=3), sequence=41))
    assert found is not None
    assert found.what == (
        "it was 2 rows of digits v1.0.0 to inference.routed/1, it is 2 rows of digits v2.0.0 to inference.routed/3"
    )


def test_a_changed_rule_is_another_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    view = VIEWS["weighted"]
    kept = decision(frame([row(n, routing_key=f"k{n}") for n in range(40)]), view)
    assert kept is not None
    assert differs(*kept, view) is None
    monkeypatch.setattr(agents.route, "version_for", lambda effective, key: effective.versions[-1].version)
    assert differs(*kept, view) is not None


def test_rows_that_only_look_the_same_differ() -> None:
    kept = decision(frame([row(1)]), PLANNED)
    assert kept is not None
    record, made = kept
    found = differs(record, replace(made, priorities=b"\x09"), PLANNED)
    assert found is not None
    assert found.what.endswith("the same ways, but columns of the rows differ")


def test_rows_that_wait_are_told() -> None:
    kept = decision(frame([row(1, model="unplanned")]), PLANNED)
    assert kept is not None
    assert kept[0].rows[0].topic == DEFERRED
    found = differs(*kept, memory(plan("unplanned", ("v1.0.0", 100), lane=0), sequence=41))
    assert found is not None
    assert "1 rows of unplanned without a version wait" in found.what

"""The Researcher: each rule once, and again when it changes."""

from __future__ import annotations

from dataclasses import replace

from agents.constraint import Constraint, Rule
from agents.researcher import Params, State, decide
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import ContextSignal
from streams.agent import Publish
from streams.canonical import digest, from_json, to_json
from streams.memory_view import ZERO_HASH, MemoryHead
from tests.support import drift
from tests.support.control import at, tick

RULE = Rule("tight", "model/*", Constraint("max_batch_size", 16), "rules.yaml")
SIGNAL = ContextSignal(
    "tight", "constraint", "model/*", '{"field":"max_batch_size","maximum":16,"names":[]}', "rules.yaml", 9
)


def test_rules_are_published_once() -> None:
    identity = digest(RULE).hex()
    state, effects = decide(State(), tick(9), Params((RULE,)))
    reason = 'model/*: {"field":"max_batch_size","maximum":16,"names":[]} (rules.yaml)'
    command = MemoryCommand(
        f"context/tight/{identity[:16]}/9",
        "researcher",
        "NoteContext",
        "context/tight",
        -1,
        to_json(SIGNAL),
        reason,
        (),
        9,
    )
    assert state == State({"tight": identity})
    assert effects == (Publish("control.context", b"tight", SIGNAL), Publish("memory.commands", b"tight", command))
    assert decide(state, tick(10), Params((RULE,))) == (state, ())
    assert decide(state, at(SIGNAL), Params((RULE,))) == (state, ())


def test_a_changed_rule_is_published_again() -> None:
    state, _ = decide(State(), tick(9), Params((RULE,)))
    changed = replace(RULE, constraint=Constraint("max_batch_size", 8))
    state, effects = decide(state, tick(10), Params((changed,)))
    assert [effect.record.expression for effect in effects[:1]] == ['{"field":"max_batch_size","maximum":8,"names":[]}']
    assert decide(state, tick(11), Params(())) == (state, ())


def test_a_trend_is_context_and_no_command() -> None:
    made = drift.reference()
    body = to_json(made)
    event = MemoryEvent(1, ZERO_HASH, "c", "cli", "ReferenceSet", "reference/digits/v1.0.0", 1, body, "", (), 1)
    state, effects = decide(State(), at(event, answers=b"h" * 32), Params())
    assert (effects, state.head) == ((), MemoryHead(1, b"h" * 32))
    forged = replace(event, sequence=9, body=None)
    assert decide(state, at(forged, answers=b"x" * 32), Params()) == (state, ())
    said: list[ContextSignal] = []
    for minute in range(1, 60):
        told = drift.told(made, drift.rows(400, 1, shift=3.0), minute * 60_000_000)
        state, effects = decide(state, at(told, minute * 60_000_000), Params())
        assert {effect.topic for effect in effects} <= {"control.context"}
        said += [effect.record for effect in effects]
    assert {each.kind for each in said} == {"trend"}
    assert ("trend/digits/v1.0.0/mean_shift", "model/digits") in {(each.signal_id, each.subject) for each in said}
    assert from_json(State, to_json(state)) == state

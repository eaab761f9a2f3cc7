"""The Researcher: each rule once, and again when it changes."""

from __future__ import annotations

from dataclasses import replace

from agents.constraint import Constraint, Rule
from agents.researcher import Params, State, decide
from schemas.memory import MemoryCommand
from schemas.review import ContextSignal
from streams.agent import Publish
from streams.canonical import digest, to_json
from tests.support.control import at, tick

RULE = Rule("tight", "model/*", Constraint("max_batch_size", 16), "rules.yaml")
SIGNAL = ContextSignal("tight", "constraint", "model/*", '{"field":"max_batch_size","maximum":16,"names":[]}', "rules.yaml", 9)


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

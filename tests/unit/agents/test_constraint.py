"""Constraints: the strictest one that applies."""

from __future__ import annotations

import pytest

from agents.constraint import Bound, Constraint, Rule, banned, bounded_by, rule_of, rules_in
from schemas.memory import MemoryEntry
from schemas.review import ContextSignal
from streams.canonical import to_json
from streams.errors import PoisonRecordError
from streams.memory_view import MemoryView

RULES = (
    Rule("a", "model/*", Constraint("max_batch_size", 32)),
    Rule("b", "model/digits", Constraint("max_batch_size", 16)),
    Rule("c", "model/digits", Constraint("timeout_ms", 0)),
)


@pytest.mark.parametrize(
    ("model", "field", "wanted", "bounded"),
    [
        ("digits", "max_batch_size", 128, 16),
        ("digits", "max_batch_size", 8, 8),
        ("other", "max_batch_size", 128, 32),
        ("other", "timeout_ms", 500, 500),
        ("digits", "timeout_ms", 500, 1),
    ],
)
def test_bounded_by(model: str, field: Bound, wanted: int, bounded: int) -> None:
    assert bounded_by(RULES, model, field, wanted) == bounded


def test_rule_of() -> None:
    signal = ContextSignal("a", "constraint", "model/*", '{"field":"max_batch_size","maximum":32}', "rules file", 1)
    assert rule_of(signal) == RULES[0]
    with pytest.raises(PoisonRecordError):
        rule_of(ContextSignal("a", "constraint", "model/*", '{"field":"colour","maximum":32}', "rules file", 1))


def test_banned_names_with_the_first_rule_for_each() -> None:
    rules = (
        Rule("a", "model/*", Constraint("not_allowed_tenant", names=("acme", "initech"))),
        Rule("b", "model/digits", Constraint("not_allowed_tenant", names=("acme", "hooli"))),
        Rule("c", "model/digits", Constraint("features_not_used", names=("age",))),
        *RULES,
    )
    assert banned(rules, "digits", "not_allowed_tenant") == {"acme": rules[0], "initech": rules[0], "hooli": rules[1]}
    assert banned(rules, "other", "features_not_used") == {}
    assert bounded_by(rules, "digits", "max_batch_size", 128) == 16


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        (Constraint("max_batch_size", 1), ""),
        (Constraint("not_allowed_region", names=("eu",)), ""),
        (Constraint("max_batch_size"), "max_batch_size takes a maximum of at least 1 and no names"),
        (Constraint("timeout_ms", 5, ("a",)), "timeout_ms takes a maximum of at least 1 and no names"),
        (Constraint("not_allowed_tenant", 5, ("a",)), "not_allowed_tenant takes names and no maximum"),
        (Constraint("features_not_used"), "features_not_used takes names and no maximum"),
    ],
)
def test_what_is_wrong_with_a_constraint(constraint: Constraint, problem: str) -> None:
    assert constraint.problem == problem


def test_rules_in_memory_are_those_signals_that_are_constraints() -> None:
    ban = Constraint("not_allowed_tenant", names=("acme",))
    signals = (
        ContextSignal("z", "constraint", "model/*", to_json(ban), "rules file", 1),
        ContextSignal("a", "constraint", "model/*", '{"field":"max_batch_size","maximum":32}', "rules file", 1),
        ContextSignal("t", "trend", "model/digits", '{"any":1}', "researcher", 1),
        ContextSignal("f", "constraint", "model/*", '{"field":"of a later release"}', "rules file", 1),
    )
    entries = {f"context/{s.signal_id}": MemoryEntry(f"context/{s.signal_id}", 1, 1, to_json(s), 1) for s in signals}
    memory = MemoryView(1, b"h" * 32, 1, entries)
    assert rules_in(memory) == (RULES[0], Rule("z", "model/*", ban))
    assert rules_in(memory) is rules_in(memory)

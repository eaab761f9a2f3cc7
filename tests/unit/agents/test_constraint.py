"""Constraints: the strictest one that applies."""

from __future__ import annotations

import pytest

from agents.constraint import Constraint, Rule, bounded_by, rule_of
from schemas.review import ContextSignal
from streams.errors import PoisonRecordError

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
def test_bounded_by(model: str, field: str, wanted: int, bounded: int) -> None:
    assert bounded_by(RULES, model, field, wanted) == bounded


def test_rule_of() -> None:
    signal = ContextSignal("a", "constraint", "model/*", '{"field":"max_batch_size","maximum":32}', "rules file", 1)
    assert rule_of(signal) == RULES[0]
    with pytest.raises(PoisonRecordError):
        rule_of(ContextSignal("a", "constraint", "model/*", '{"field":"colour","maximum":32}', "rules file", 1))

"""Constraints that the Researcher finds and the Planner obeys: upper bounds on a field of a model's plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from schemas.review import ContextSignal
from streams.canonical import from_json

KIND: Final = "constraint"
EVERY_MODEL: Final = "model/*"


@dataclass(frozen=True, slots=True)
class Constraint:
    """``field`` of a plan must not exceed ``maximum`` (items of ``max_batch_size``, milliseconds of ``timeout_ms``)."""

    field: Literal["max_batch_size", "timeout_ms"]
    maximum: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint with its id and subject: ``model/<name>``, or ``model/*`` for all; ``source``: where it is from."""

    rule_id: str
    subject: str
    constraint: Constraint
    source: str = "rules file"


def rule_of(signal: ContextSignal) -> Rule:
    """The rule that a signal of kind ``constraint`` carries. Raises PoisonRecordError when it carries none."""
    return Rule(signal.signal_id, signal.subject, from_json(Constraint, signal.expression), signal.source)


def bounded_by(rules: Iterable[Rule], model: str, field: str, wanted: int) -> int:
    """``wanted``, lowered to the strictest rule for ``field`` of ``model``, at least 1."""
    subjects = (EVERY_MODEL, f"model/{model}")
    maxima = [r.constraint.maximum for r in rules if r.subject in subjects and r.constraint.field == field]
    return max(1, min((wanted, *maxima)))

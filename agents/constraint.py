"""Constraints that the Researcher finds: what the Planner plans within, and what the door lets in.

``max_batch_size`` and ``timeout_ms`` are upper bounds on a model's plan (the Planner's part). ``not_allowed_tenant``,
``not_allowed_region`` and ``features_not_used`` name tenants, regions and inputs that a model may not serve, be served
in or take: requests that would are refused at the edge (``agents.door``), and no version that takes such an input
stands in for another. ``retention_s`` says how long a model's records are kept; it is noted, topics are set by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from schemas.review import ContextSignal
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.memory_view import MemoryView, derived

KIND: Final = "constraint"
EVERY_MODEL: Final = "model/*"

Bound = Literal["max_batch_size", "timeout_ms", "retention_s"]
Ban = Literal["not_allowed_tenant", "not_allowed_region", "features_not_used"]
BOUNDS: Final = ("max_batch_size", "timeout_ms", "retention_s")
BANS: Final = ("not_allowed_tenant", "not_allowed_region", "features_not_used")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound: ``field`` must not exceed ``maximum`` (items, milliseconds, seconds). A ban: none of ``names``."""

    field: Literal[
        "max_batch_size", "timeout_ms", "retention_s", "not_allowed_tenant", "not_allowed_region", "features_not_used"
    ]
    maximum: int = 0
    names: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """What is wrong with it as a sentence without a full stop, or "" for nothing."""
        if self.field in BOUNDS and (self.maximum < 1 or self.names):
            return f"{self.field} takes a maximum of at least 1 and no names"
        if self.field in BANS and (self.maximum or not self.names):
            return f"{self.field} takes names and no maximum"
        return ""


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


def bounded_by(rules: Iterable[Rule], model: str, field: Bound, wanted: int) -> int:
    """``wanted``, lowered to the strictest rule for ``field`` of ``model``, at least 1."""
    maxima = [rule.constraint.maximum for rule in rules if _applies(rule, model, field)]
    return max(1, min((wanted, *maxima)))


def banned(rules: Iterable[Rule], model: str, field: Ban) -> dict[str, Rule]:
    """The names that rules for ``field`` of ``model`` ban, each with the first rule that does."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if _applies(rule, model, field):
            for name in rule.constraint.names:
                found.setdefault(name, rule)
    return found


def rules_in(memory: MemoryView) -> tuple[Rule, ...]:
    """The rules in memory in the order of their ids; what cannot be read (a later release's) is none."""
    return derived(memory, ("constraints",), lambda: tuple(_rules_in(memory)))


def _rules_in(memory: MemoryView) -> Iterable[Rule]:
    for key in sorted(memory.entries):
        if key.startswith("context/"):
            try:
                signal = from_json(ContextSignal, memory.entries[key].body, newer=True)
                if signal.kind == KIND:
                    yield rule_of(signal)
            except PoisonRecordError:
                continue


def _applies(rule: Rule, model: str, field: str) -> bool:
    return rule.constraint.field == field and rule.subject in (EVERY_MODEL, f"model/{model}")

"""People in the loop: requests for review, their decisions, context and escalations."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.coordinate import RecordCoordinate


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Asks a person; ``subject_digest``: SHA-256 (hex) of what is to be approved; fails closed at ``deadline_us``."""

    review_id: str
    author: str
    subject: str
    subject_digest: str
    evidence: str
    deadline_us: int
    requested_us: int


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """Outcome of a review: ``decision`` is approved, rejected or expired."""

    review_id: str
    decision: str
    decided_by: str
    reason: str
    subject_digest: str
    decided_us: int


@dataclass(frozen=True, slots=True)
class ContextSignal:
    """A constraint or observation of the Researcher; ``expression`` is canonical JSON of the rule."""

    signal_id: str
    kind: str
    subject: str
    expression: str
    source: str
    time_us: int


@dataclass(frozen=True, slots=True)
class Validation:
    """Outcome of a check the Validator ran."""

    validation_id: str
    check: str
    model: str
    version: str
    passed: bool
    message: str
    time_us: int


@dataclass(frozen=True, slots=True)
class Escalation:
    """A decision handed to people, with its reason."""

    escalation_id: str
    agent: str
    subject: str
    reason: str
    time_us: int
    causes: tuple[RecordCoordinate, ...] = ()

"""People in the loop: requests for review, their decisions, context and escalations."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.coordinate import RecordCoordinate


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Asks a person; ``subject_digest``: SHA-256 (hex) of what is to be approved; fails closed at ``deadline_us``.

    ``policy``: people decide, or, in a sandbox, development: the Reviewer by itself.
    """

    review_id: str
    author: str
    subject: str
    subject_digest: str
    evidence: str
    deadline_us: int
    requested_us: int
    policy: str = "people"


@dataclass(frozen=True, slots=True)
class ReviewVote:
    """What a person says of a review: ``decision`` is approved or rejected; ``signature`` is over all other fields."""

    review_id: str
    decision: str
    signer: str
    reason: str
    subject_digest: str
    time_us: int
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """Outcome of a review: ``decision`` is approved, rejected or expired.

    ``decided_by`` is the signer of the vote, whose ``signature`` and time (``voted_us``) stand beside it, or
    ``development-policy`` or ``reviewer``, which sign nothing.
    """

    review_id: str
    decision: str
    decided_by: str
    reason: str
    subject_digest: str
    decided_us: int
    signature: str = ""
    voted_us: int = 0


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
    """Outcome of a check the Validator ran: ``passed``, ``failed`` or ``not_run``, which is not passed ("" in v1).

    Only ``failed`` says that something is wrong with the version. ``num_samples``: rows that the outcome rests on;
    ``evidence``: what was measured, canonical JSON; ``alert_id``: the alert, incident or review that it answers.
    """

    validation_id: str
    check: str
    model: str
    version: str
    passed: bool
    message: str
    time_us: int
    outcome: str = ""
    num_samples: int = 0
    evidence: str = ""
    alert_id: str = ""
    causes: tuple[RecordCoordinate, ...] = ()


@dataclass(frozen=True, slots=True)
class Escalation:
    """A decision handed to people, with its reason."""

    escalation_id: str
    agent: str
    subject: str
    reason: str
    time_us: int
    causes: tuple[RecordCoordinate, ...] = ()

"""What waits for people and how it was decided, as rows: memory says what is open, the topics what was. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from agents.approval import REVIEW_ID, vote_of
from agents.authorship import vote_message
from agents.reviewer import State, open_requests
from schemas.review import ReviewDecision, ReviewRequest, Validation
from streams.memory_view import MemoryView
from streams.review_view import open_reviews, review_decision, signers
from streams.signing import verify

SHOWN_VALIDATIONS: Final = 5


def review_rows(
    view: MemoryView, requests: Iterable[ReviewRequest], decisions: Iterable[ReviewDecision], now_us: int
) -> list[dict[str, Any]]:
    """One row per request: waiting, or how it was decided; past its deadline and undecided it counts as expired.

    The Orchestrator's reviews are believed to memory only: one of the topic that was never decided is not listed.
    """
    known = {review_id: review.request for review_id, review in open_reviews(view).items()}
    outcome = {decision.review_id: decision for decision in reversed(list(decisions))}
    for request in requests:
        is_memorys = bool(REVIEW_ID.fullmatch(request.review_id))
        decided = review_decision(view, request.review_id) or outcome.get(request.review_id)
        if not is_memorys or (decided is not None and decided.subject_digest == request.subject_digest):
            known.setdefault(request.review_id, request)
    found = open_requests(State(waiting=known))
    return [_row(view, request, outcome.get(request.review_id), now_us) for request in found]


def _row(view: MemoryView, request: ReviewRequest, decision: ReviewDecision | None, now_us: int) -> dict[str, Any]:
    if REVIEW_ID.fullmatch(request.review_id):
        is_open = request.review_id in open_reviews(view)
        decision = None if is_open else review_decision(view, request.review_id) or decision
    undecided = "waiting" if request.deadline_us > now_us else "expired"
    return {
        **asdict(request),
        "state": undecided if decision is None else decision.decision,
        "deadline": datetime.fromtimestamp(request.deadline_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "decided_by": "" if decision is None else decision.decided_by,
        "reason": "" if decision is None else decision.reason,
        "signature": "" if decision is None else _signature(view, decision),
    }


def _signature(view: MemoryView, decision: ReviewDecision) -> str:
    """Whether the decision is signed: none, valid, or not; by the key that is registered now."""
    if not decision.signature:
        return "none"
    person = signers(view).get(decision.decided_by)
    if person is None:
        return "unknown_signer"
    holds = verify(person.public_key, vote_message(vote_of(decision)), decision.signature)
    return ("valid" if not person.revoked_us else "valid, revoked since") if holds else "invalid"


def document(row: Mapping[str, Any], view: MemoryView, validations: Iterable[Validation]) -> dict[str, Any]:
    """A row with its evidence as data, the command as it will be done, and what checks of the model said last."""
    review = open_reviews(view).get(row["review_id"])
    body = {} if review is None else _plain(review.command.body)
    model = body.get("model", "") if isinstance(body, dict) else ""
    checks = [each for each in validations if model and each.model == model][-SHOWN_VALIDATIONS:]
    return {
        **row,
        "evidence": _plain(row["evidence"]),
        "command": None if review is None else {**asdict(review.command), "body": body, "causes": []},
        "last_validations": [
            {"check": each.check, "version": each.version, "passed": each.passed, "message": each.message}
            for each in checks
        ],
    }


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

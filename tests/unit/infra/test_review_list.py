"""What waits, what was decided, and what is not believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.review_list import document, review_rows
from schemas.environment import OpenReview
from schemas.review import ReviewDecision, ReviewRequest, Validation
from streams.memory_view import MemoryView
from tests.support.signers import activation, decision_of, signer, vote
from tests.unit.streams.test_review_view import view_of

FAR_US = 4_000_000_000_000_000
REQUEST = ReviewRequest("q1", "planner", "plan/x", "ab", "evidence", 100, 10)
WAITING = replace(REQUEST, review_id="q2", deadline_us=FAR_US)
DECISION = ReviewDecision("q1", "rejected", "somebody", "No.", "ab", 50)
OURS = replace(REQUEST, review_id="r7", author="ann", deadline_us=FAR_US, evidence='{"slo":null}')
OPEN = OpenReview(OURS, activation())
APPROVED = decision_of(vote("r7", "ab"))


def states(decisions: list[ReviewDecision], now_us: int) -> list[tuple[str, str, str]]:
    rows = review_rows(MemoryView(), [REQUEST, WAITING, REQUEST], decisions, now_us)
    return [(row["review_id"], row["state"], row["decided_by"]) for row in rows]


def test_requests_of_others_are_those_of_their_topic() -> None:
    assert states([], 99) == [("q1", "waiting", ""), ("q2", "waiting", "")]
    assert states([], 100) == [("q1", "expired", ""), ("q2", "waiting", "")]
    later = replace(DECISION, decision="expired", decided_by="reviewer")
    assert states([DECISION, later], 100) == [("q1", "rejected", "somebody"), ("q2", "waiting", "")]


def test_the_orchestrators_reviews_are_those_of_memory() -> None:
    forged = replace(OURS, author="eve")
    (row,) = review_rows(view_of(review__r7=OPEN), [forged], [APPROVED], 20)
    assert (row["author"], row["state"], row["decided_by"]) == ("ann", "waiting", "")
    assert review_rows(MemoryView(), [forged], [], 20) == []


@pytest.mark.parametrize(
    ("decision", "person", "signature"),
    [
        (APPROVED, signer("bob"), "valid"),
        (APPROVED, replace(signer("bob"), revoked_us=9), "valid, revoked since"),
        (replace(APPROVED, reason="another"), signer("bob"), "invalid"),
        (APPROVED, None, "unknown_signer"),
        (replace(APPROVED, signature="", decided_by="development-policy"), None, "none"),
    ],
)
def test_a_decided_review_shows_whether_its_signature_holds(
    decision: ReviewDecision, person: object, signature: str
) -> None:
    noted = view_of(decision__r7=decision) if person is None else view_of(decision__r7=decision, signer__bob=person)
    (row,) = review_rows(noted, [OURS], [], 20)
    assert (row["state"], row["signature"]) == ("approved", signature)
    forgotten = view_of() if person is None else view_of(signer__bob=person)
    (row,) = review_rows(forgotten, [OURS], [decision], 20)  # long ago: the topic is what is left
    assert (row["state"], row["signature"]) == ("approved", signature)


def test_a_review_in_full() -> None:
    view = view_of(review__r7=OPEN)
    (row,) = review_rows(view, [], [], 20)
    checks = [Validation(f"c{n}", "golden_set", model, "v2.0.0", True, "fine", n) for n, model in enumerate("xd" * 7)]
    checks = [replace(each, model="digits" if each.model == "d" else "other") for each in checks]
    shown = document(row, view, checks)
    assert shown["evidence"] == {"slo": None}
    assert shown["command"]["body"] == {"model": "digits", "version": "v2.0.0"}
    assert (
        shown["last_validations"]
        == [{"check": "golden_set", "version": "v2.0.0", "passed": True, "message": "fine"}] * 5
    )
    (row,) = review_rows(MemoryView(), [REQUEST], [], 20)
    shown = document(row, MemoryView(), checks)
    assert (shown["evidence"], shown["command"], shown["last_validations"]) == ("evidence", None, [])

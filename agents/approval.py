"""Approvals: which commands of people wait for another person, and what a decision is worth. Pure, for two agents.

Where ``environment`` stands in memory, the Orchestrator parks a command that ``agents.authorship`` lets wait:
``ReviewOpened`` under ``review/r<sequence>`` with the command itself, its digest and a deadline. Votes are signed by
registered people. The Reviewer checks a vote (``refused_vote``), and the Orchestrator, which trusts nobody, checks what
the Reviewer says once more (``outcome``). One decision is noted per review, under ``decision/<id>`` (the last 256), its
command is judged anew against memory as it stands, and last the review is gone.

An author cannot be believed unsigned, so outside a sandbox a gated command must be signed by a registered person, who
may reject it, but not approve it. A new person signs its own registration; whoever approves that vouches for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from agents.authorship import environment_of, need_of, refused_author, refused_signature, signer_of, vote_message
from agents.verdict import ANY_VERSION, Change, Refusal, State, Verdict, keys_below
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand
from schemas.review import Escalation, ReviewDecision, ReviewRequest, ReviewVote
from streams.agent import NO_EFFECTS, Effects, Publish
from streams.canonical import digest, from_json, to_json
from streams.signing import verify

DEVELOPMENT: Final = "development-policy"
REVIEWER: Final = "reviewer"
MOST_OPEN: Final = 64
MAX_REASON: Final = 500
MAX_PARKED: Final = 131_072
"""Bytes of a command as JSON: it stands in an event with its evidence, and events have a largest size."""
MAX_WAITING: Final = 1 << 20
"""Characters of all open reviews as JSON: they stand in snapshots, where JSON in JSON is up to four times as long."""
KEPT_DECISIONS: Final = 256
SECOND_US: Final = 1_000_000
REVIEW_ID: Final = re.compile(r"r[1-9][0-9]{0,17}")
"""Ids of the Orchestrator's reviews: the sequence of the event that opened it, so none comes twice."""

_CLOSING: Final = {"approved": "ReviewApproved", "rejected": "ReviewRejected", "expired": "ReviewExpired"}

Judge = Callable[[State, MemoryCommand], Verdict]
Steps = tuple[tuple[MemoryCommand, Verdict], ...]


def vote_of(decision: ReviewDecision) -> ReviewVote:
    """The vote that a decision claims to carry out."""
    return ReviewVote(
        review_id=decision.review_id,
        decision=decision.decision,
        signer=decision.decided_by,
        reason=decision.reason,
        subject_digest=decision.subject_digest,
        time_us=decision.voted_us,
        signature=decision.signature,
    )


def vote_id(vote: ReviewVote) -> str:
    """The id under which a vote's refusal is told: the review's, if it looks like one, and a digest of the vote."""
    review = vote.review_id if REVIEW_ID.fullmatch(vote.review_id) else "unknown"
    return f"vote-{review}-{digest(vote).hex()[:16]}"


def refused_vote(request: ReviewRequest, vote: ReviewVote, signer: Signer | None, now_us: int) -> Refusal | None:
    """Why a vote on an open review does not count, or None."""
    who = vote.signer or "nobody"
    if vote.decision not in ("approved", "rejected"):
        return Refusal("unknown_decision", f"A vote is approved or rejected, not {vote.decision[:32]!r}.")
    if not 1 <= len(vote.reason) <= MAX_REASON:
        return Refusal("invalid_reason", f"A vote gives its reason in 1 to {MAX_REASON} characters.")
    if signer is None or signer.kind != "person":
        return Refusal("unknown_signer", f"{who[:64]} is no registered person. `isos reviews keygen` registers one.")
    if signer.revoked_us:
        return Refusal("signer_revoked", f"The key of {signer.name} was revoked.")
    if not verify(signer.public_key, vote_message(vote), vote.signature):
        return Refusal("bad_signature", f"The signature is not {signer.name}'s for this vote.")
    if vote.subject_digest != request.subject_digest:
        return Refusal("digest_mismatch", f"{signer.name} voted on something else than what {request.review_id} holds.")
    if vote.decision == "approved" and signer.name == request.author:
        return Refusal("self_approval", f"{signer.name} asked for it and cannot approve it.")
    if vote.time_us < request.requested_us:  # of an earlier life of memory, whose reviews had the same ids
        return Refusal("stale_vote", f"{signer.name} voted before {request.review_id} was opened.")
    if now_us >= request.deadline_us:
        return Refusal("approval_expired", f"The deadline of {request.review_id} has passed.")
    return None


def gated(state: State, command: MemoryCommand, verdict: Verdict, now_us: int) -> tuple[Verdict, Effects]:
    """What becomes of a judged command: the verdict itself, or a review that is opened in its place and told."""
    need = "nothing" if isinstance(verdict, Refusal) or not verdict else need_of(state, command)
    if isinstance(verdict, Refusal) or need == "nothing":
        return verdict, NO_EFFECTS
    if need == "signature":
        return refused_signature(state, command) or verdict, NO_EFFECTS
    environment, by_policy = environment_of(state) or Environment(), need == "note"
    refusal = None if by_policy else refused_author(state, command)
    if refusal is None and len(to_json(command).encode()) > MAX_PARKED:
        refusal = Refusal("too_large", f"A command that waits for an approval has up to {MAX_PARKED} bytes.")
    if refusal is not None:
        return refusal, NO_EFFECTS
    request = ReviewRequest(
        review_id=f"r{state.sequence + 1}",
        author=command.author or command.agent,
        subject=f"{command.kind} {command.key}",
        subject_digest=digest(command).hex(),
        evidence=evidence(state, command, verdict, environment),
        deadline_us=now_us + environment.review_s * SECOND_US,
        requested_us=now_us,
        policy="development" if by_policy else "people",
    )
    opened = to_json(OpenReview(request, command))
    waiting = [len(state.values[key].body) for key in keys_below(state, "review/")]
    if len(waiting) >= MOST_OPEN or sum(waiting) + len(opened) > MAX_WAITING:
        sentence = f"{len(waiting)} reviews are open, and there is no room for another; `isos reviews list` shows them."
        return Refusal("too_many_reviews", sentence), NO_EFFECTS
    return (Change("ReviewOpened", f"review/{request.review_id}", opened),), (
        Publish("control.review-requests", request.review_id.encode(), request),
    )


def evidence(state: State, command: MemoryCommand, changes: tuple[Change, ...], environment: Environment) -> str:
    """What a person needs to know, as canonical JSON: what changes from what to what, why, and what is promised."""
    model = command.key.partition("/")[2]
    serving = state.values.get(f"serving/{model}")
    incidents = [key for key in keys_below(state, "incident/") if model and model in key]
    document = {
        "environment": environment.name,
        "reason": command.reason,
        "changes": [
            {"event": each.kind, "key": each.key, "from": _standing(state, each.key), "to": _plain(each.body)}
            for each in changes
        ],
        "slo": None if serving is None else json.loads(serving.body).get("slo"),
        "open_incidents": incidents,
    }
    return to_json(document)


def _standing(state: State, key: str) -> Any:
    value = state.values.get(key)
    return None if value is None else _plain(value.body)


def _plain(body: str | None) -> Any:
    return None if body is None else json.loads(body)


def outcome(state: State, decision: ReviewDecision, now_us: int, judge: Judge) -> tuple[Steps, Effects]:
    """What a decision does to memory, and who is told: the review closes and its command is judged, or a refusal."""
    if decision.decision == "expired" and not REVIEW_ID.fullmatch(decision.review_id):
        return (), NO_EFFECTS  # of somebody else's request
    review = _accepted(state, decision, now_us)
    if isinstance(review, Refusal):
        return _refused(decision, review, now_us)
    command, who = review.command, decision.decided_by
    reason = f"{command.reason}; {decision.decision} by {who}: {decision.reason}"
    command = replace(command, reason=reason)
    noting = [Change("DecisionNoted", f"decision/{decision.review_id}", to_json(decision))]
    noted = sorted(keys_below(state, "decision/"), key=lambda key: int(key.partition("/r")[2]))
    noting += [Change("DecisionForgotten", key, None) for key in noted[: max(0, len(noted) + 1 - KEPT_DECISIONS)]]
    revoked = refused_author(state, review.command) if review.request.policy == "people" else None
    verdict: Verdict = revoked or judge(state, review.command)
    if decision.decision != "approved":
        how = "rejected by" if decision.decision == "rejected" else "called expired by"
        sentence = f"{decision.review_id} was {how} {decision.decided_by}: {decision.reason}"
        verdict = Refusal(f"review_{decision.decision}", sentence)
    closing = Change(_CLOSING[decision.decision], f"review/{decision.review_id}", None)  # last: now all of it stands
    return ((command, tuple(noting)), (command, verdict), (command, (closing,))), NO_EFFECTS


def _accepted(state: State, decision: ReviewDecision, now_us: int) -> OpenReview | Refusal:
    if f"decision/{decision.review_id}" in state.values:
        return Refusal("approval_used", f"{decision.review_id} was decided before, and a decision holds once.")
    value = state.values.get(f"review/{decision.review_id}")
    if value is None:
        return Refusal("unknown_review", f"There is no review {decision.review_id[:32]}.")
    review = from_json(OpenReview, value.body, newer=True)
    if len(decision.reason) > MAX_REASON:
        return Refusal("invalid_reason", f"A decision gives its reason in up to {MAX_REASON} characters.")
    if decision.subject_digest != review.request.subject_digest:
        return Refusal("digest_mismatch", f"The decision is about something else than what {decision.review_id} holds.")
    environment = environment_of(state) or Environment()
    by_policy = review.request.policy == "development"
    refusal: Refusal | None = None
    if decision.decision == "expired":
        if decision.decided_by != REVIEWER or decision.signature:
            refusal = Refusal("bad_signature", f"Who calls {decision.review_id} expired is the {REVIEWER}, unsigned.")
        elif now_us < review.request.deadline_us:
            refusal = Refusal("not_expired", f"The deadline of {decision.review_id} has not passed.")
    elif decision.decided_by == DEVELOPMENT:
        if decision.decision != "approved":
            refusal = Refusal("unknown_decision", f"The {DEVELOPMENT} approves, and says nothing else.")
        elif decision.signature or not (by_policy and environment.is_sandbox and environment.development_policy):
            refusal = Refusal("bad_signature", f"Nobody signed, and {environment.name} has no development policy.")
        elif now_us >= review.request.deadline_us:
            refusal = Refusal("approval_expired", f"The deadline of {decision.review_id} has passed.")
    else:
        refusal = refused_vote(review.request, vote_of(decision), signer_of(state, decision.decided_by), now_us)
        if refusal is None and by_policy and not environment.is_sandbox and decision.decision == "approved":
            refusal = Refusal("environment_changed", "It was asked in a sandbox, where authors do not sign; ask again.")
    return refusal or review


def _refused(decision: ReviewDecision, refusal: Refusal, now_us: int) -> tuple[Steps, Effects]:
    identity = vote_id(vote_of(decision))
    said = MemoryCommand(
        command_id=identity,
        agent=REVIEWER,
        kind="DecideReview",
        key=f"review/{decision.review_id}",
        expected_version=ANY_VERSION,
        body="",
        reason=refusal.message,
        causes=(),
        sent_us=decision.decided_us,
    )
    return ((said, refusal),), (told(identity, "orchestrator", decision.review_id, refusal, now_us),)


def told(identity: str, agent: str, review_id: str, refusal: Refusal, now_us: int) -> Publish:
    """A refusal as an escalation: people hear of every vote that did not count."""
    reason = f"{refusal.code}: {refusal.message}"
    escalation = Escalation(identity, agent, f"review/{review_id[:64]}", reason, now_us)
    return Publish("control.escalations", identity.encode(), escalation)

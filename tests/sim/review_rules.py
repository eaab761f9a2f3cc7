"""What must hold of approvals, judged by memory's events alone, with nothing of ``agents.approval`` but what is signed.

Outside a sandbox a version is made active, and the environment lowered, only by a command that another registered
person approved: once, with their own signature on exactly that command, before its deadline. Who may sign changes only
by a command that was approved so, or that somebody registered signed; the first key of a person is free. Events hold no
signatures, so the command itself is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agents.approval import DEVELOPMENT, vote_of
from agents.authorship import command_message, vote_message
from schemas.environment import ENVIRONMENTS, Environment, OpenReview, Signer
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import ReviewDecision
from streams.canonical import digest, from_json
from streams.signing import verify

APPROVED: Final = "what must be approved was approved by another person"
USED_ONCE: Final = "an approval is used once"
IN_TIME: Final = "a decision is made before its deadline"
CUSTODY: Final = "who may sign changes only by a registered signature"
CLOSED: Final = {"ReviewApproved": "approved", "ReviewRejected": "rejected", "ReviewExpired": "expired"}
PEOPLE: Final = ("cli", "operator")


class ReviewRules:
    """``take`` an event: the rules that it breaks, with a sentence each. ``command_at``: by its offset."""

    def __init__(self, command_at: Callable[[int], MemoryCommand | None]) -> None:
        self.command_at = command_at
        self.environment: Environment | None = None
        self.signers: dict[str, Signer] = {}
        self.reviews: dict[str, OpenReview] = {}
        self.noted: dict[str, str] = {}
        self.closed: set[str] = set()
        self.approved: set[str] = set()
        self.applied: set[tuple[str, str]] = set()
        self.registering: set[str] = set()
        self.num_approved = 0

    def take(self, event: MemoryEvent) -> Iterator[tuple[str, str]]:
        """Judge an event that follows the ones before."""
        kind, _, name = event.key.partition("/")
        if kind == "signer" and event.body is not None:
            yield from self.enrolled(event)
            self.signers[name] = from_json(Signer, event.body)
        elif event.kind == "ModelRegistered":
            self.registering.add(event.command_id)
        elif event.kind == "ReviewOpened":
            if name in self.reviews:
                yield USED_ONCE, f"review {name} is opened twice"
            self.reviews[name] = from_json(OpenReview, event.body or "")
        elif event.kind in CLOSED:
            if name in self.closed or self.noted.get(name) != CLOSED[event.kind]:
                yield USED_ONCE, f"review {name} is {event.kind}, by a decision that says {self.noted.get(name)}"
            self.closed.add(name)
        elif event.kind == "DecisionNoted":
            yield from self.decided(name, from_json(ReviewDecision, event.body or ""), event.time_us)
        elif kind == "active" or event.key == "environment":
            yield from self.changed(event)

    def changed(self, event: MemoryEvent) -> Iterator[tuple[str, str]]:
        """A version is made active, or the environment is set."""
        environment, wanted = self.environment, None
        if event.key == "environment":
            wanted = self.environment = from_json(Environment, event.body or "")
        if environment is None or environment.is_sandbox or event.agent not in PEOPLE:
            return
        if event.command_id in self.registering:
            return
        if wanted is not None and ENVIRONMENTS.index(wanted.name) > ENVIRONMENTS.index(environment.name):
            return
        if event.command_id not in self.approved:
            yield APPROVED, f"{event.key} is changed by {event.command_id}, which nobody approved"
        if (event.command_id, event.key) in self.applied:
            yield USED_ONCE, f"{event.key} is changed by {event.command_id} a second time"
        self.applied.add((event.command_id, event.key))

    def enrolled(self, event: MemoryEvent) -> Iterator[tuple[str, str]]:
        """A signer is registered or revoked."""
        holding = [each for each in self.signers.values() if each.kind == "person" and not each.revoked_us]
        if not holding or event.agent not in PEOPLE or event.command_id in self.approved:
            return
        command = self.command_at(event.causes[-1].offset) if event.causes else None
        author = next((each for each in holding if command is not None and each.name == command.author), None)
        if command is None or command.command_id != event.command_id or command.key != event.key:
            yield CUSTODY, f"{event.kind} of {event.key} is not what its cause asks for"
        elif author is None or not verify(author.public_key, command_message(command), command.signature):
            yield CUSTODY, f"{event.kind} of {event.key} by {command.author or 'nobody'}, whose signature it is not"

    def decided(self, name: str, decision: ReviewDecision, time_us: int) -> Iterator[tuple[str, str]]:
        """A decision is noted."""
        review = self.reviews.get(name)
        if review is None or name in self.closed or name in self.noted or decision.review_id != name:
            yield USED_ONCE, f"review {name}, that was {self.noted.get(name)}, is decided by {decision.review_id}"
            return
        self.noted[name] = decision.decision
        who, request = decision.decided_by, review.request
        is_late = time_us >= request.deadline_us
        if (decision.decision == "expired") != is_late:
            yield (
                IN_TIME,
                f"review {name} is {decision.decision} {time_us - request.deadline_us} us behind its deadline",
            )
        if decision.decision == "expired":
            return
        if decision.subject_digest != digest(review.command).hex():
            yield APPROVED, f"{who} decided on something else than what review {name} holds"
        if who == DEVELOPMENT:
            if self.environment is None or not self.environment.is_sandbox or not self.environment.development_policy:
                yield APPROVED, f"nobody signed for review {name}, and there is no development policy"
        else:
            signer = self.signers.get(who)
            if signer is None or signer.kind != "person" or signer.revoked_us:
                yield APPROVED, f"{who}, who decided review {name}, is nobody registered"
            elif not verify(signer.public_key, vote_message(vote_of(decision)), decision.signature):
                yield APPROVED, f"the signature under the decision of review {name} is not {who}'s"
        if decision.decision == "approved":
            author = self.signers.get(review.command.author)
            if review.command.kind == "RegisterSigner":  # a new person signs it
                author = from_json(Signer, review.command.body)
            if who == request.author or request.author != (review.command.author or review.command.agent):
                yield APPROVED, f"{who} approved their own review {name}"
            signed = author is not None and verify(
                author.public_key, command_message(review.command), review.command.signature
            )
            if who != DEVELOPMENT and not signed:
                yield APPROVED, f"the author of review {name} has not signed"
            self.approved.add(review.command.command_id)
            self.num_approved += 1

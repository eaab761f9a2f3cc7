"""Approvals from the command line: who may sign, votes on what waits, and the environment that asks for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agents.approval import vote_id
from agents.authorship import vote_message
from agents.orchestrator import COMMANDS
from infra.memory_command import AGENT, command_of
from infra.memory_control import SEND_TIMEOUT_S, ChangeRefusedError, MemoryControl
from infra.signatory import signed_by
from schemas.environment import Environment, OpenReview, Signer
from schemas.review import Escalation, ReviewVote
from streams.audit_facts import facts_of
from streams.canonical import to_json
from streams.connection import bounded, producer, start, stop_quietly
from streams.errors import PoisonRecordError
from streams.memory_view import MemoryView, rejection
from streams.partition_log import LogRecord
from streams.review_view import ENVIRONMENT, environment, open_reviews, review_decision, signer_with, signers
from streams.signing import public_key_of, sign
from streams.topics import full_name
from streams.watch import PartitionWatch, WatchTimeoutError

VOTES: Final = "control.review-votes"
ESCALATIONS: Final = "control.escalations"
WHO_REMEDY: Final = "`isos reviews signers` shows who may sign."
LIST_REMEDY: Final = "`isos reviews list` shows what waits."
UNGATED: Final = ("RegisterModel", "RegisterSigner", "RevokeSigner", "SetEnvironment")
"""The first has a way of its own; the others wait by their own rules."""


def gateable_kinds() -> tuple[str, ...]:
    """Kinds of commands that an environment may let wait, by name."""
    return tuple(sorted(kind for kind, (agents, _) in COMMANDS.items() if AGENT in agents and kind not in UNGATED))


@dataclass(frozen=True, slots=True)
class VoteOutcome:
    """What became of a vote that counted, and of the command: done, or refused with a code and a sentence."""

    review: OpenReview
    vote: ReviewVote
    memory_sequence: int
    refusal: str = ""


def signed_vote(
    review: OpenReview, decision: str, reason: str, who: str, private_key: bytes, time_us: int
) -> ReviewVote:
    """A vote on what memory says is asked; this clock may be behind the Orchestrator's, and no vote is earlier."""
    request = review.request
    time_us = max(time_us, request.requested_us)
    vote = ReviewVote(request.review_id, decision, who, reason, request.subject_digest, time_us)
    return replace(vote, signature=sign(private_key, vote_message(vote)))


class ReviewControl(MemoryControl):
    """An open connection to memory, by which people register and decide. Use ``async with``."""

    async def register(self, name: str, private_key: bytes) -> Signer:
        """Register a person's public key and wait until it stands. The same again is a success.

        Raises ChangeRefusedError, WatchTimeoutError, and ReviewWaitsError where another person vouches for it.
        """
        wanted = Signer(name, public_key_of(private_key))
        if signers(self.view).get(name) != wanted:
            reason = f"{name} may sign"
            now_us = time.time_ns() // 1000
            command = command_of("RegisterSigner", f"signer/{name}", to_json(wanted), reason, self.view, now_us)
            command = signed_by(name, private_key, command)
            await self.propose(command, lambda view: signers(view).get(name) == wanted, WHO_REMEDY)
        return wanted

    async def revoke(self, name: str, private_key: bytes | None = None) -> Signer:
        """End a key and wait until memory says so; signed by ``private_key``, else by the user's where it must be.

        Raises as ``register``, and KeyFileError where the user's key cannot be used.
        """
        standing = signers(self.view).get(name)
        if standing is None:
            raise ChangeRefusedError("unknown_name", f"{name} is no registered signer", WHO_REMEDY)
        if standing.revoked_us:
            return standing
        now_us = time.time_ns() // 1000
        body = to_json(replace(standing, revoked_us=now_us))
        command = command_of("RevokeSigner", f"signer/{name}", body, f"{name} may sign no more", self.view, now_us)
        if private_key is not None:
            command = signed_by(self._person(private_key), private_key, command)
        await self.propose(command, lambda view: bool(signers(view)[name].revoked_us), WHO_REMEDY)
        return signers(self.view)[name]

    def _person(self, private_key: bytes) -> str:
        """Whose key it is. Raises ChangeRefusedError where it is nobody's."""
        person = signer_with(self.view, public_key_of(private_key))
        if person is None:
            sentence = "Nobody is registered with this key"
            raise ChangeRefusedError("unknown_signer", sentence, "`isos reviews keygen --name NAME` registers one.")
        return person.name

    async def set_environment(self, wanted: Environment) -> Environment:
        """Have the environment changed; outside a sandbox this waits for an approval itself. Raises as ``register``."""
        unknown = [kind for kind in wanted.gated if kind not in gateable_kinds()]
        if unknown:
            known = ", ".join(gateable_kinds())
            raise ChangeRefusedError("unknown_kind", f"No command {unknown[0]} can wait", f"There are {known}.")
        if environment(self.view) != wanted:
            now_us = time.time_ns() // 1000
            reason = f"the environment is to be {wanted.name}"
            command = command_of("SetEnvironment", ENVIRONMENT, to_json(wanted), reason, self.view, now_us)
            remedy = "`isos environment show` shows what stands."
            await self.propose(command, lambda view: environment(view) == wanted, remedy)
        return wanted

    async def vote(self, review_id: str, decision: str, reason: str, private_key: bytes) -> VoteOutcome:
        """Sign a vote, send it and wait for what becomes of it.

        Raises ChangeRefusedError where it does not count, and WatchTimeoutError when nobody answers in time.
        """
        review = self._open_review(review_id)
        now_us = time.time_ns() // 1000
        vote = signed_vote(review, decision, reason, self._person(private_key), private_key, now_us)
        asked = review.command
        facts = facts_of(self.view, asked.key, asked.body, asked.command_id)
        async with self.audited(f"reviews.{decision}", facts) as operation:
            await self._send_and_wait(vote)
            operation.affected(f"review/{review_id}")
        decided = review_decision(self.view, review_id)
        if decided is not None and decided.signature != vote.signature:
            sentence = f"{review_id} was {decided.decision} by {decided.decided_by} before"
            raise ChangeRefusedError("approval_used", sentence, LIST_REMEDY)
        refused = rejection(self.view, review.command.command_id) if decision == "approved" else None
        why = "" if refused is None else f"{refused.code}: {refused.message}"
        return VoteOutcome(review, vote, self.view.sequence, why)

    def _open_review(self, review_id: str) -> OpenReview:
        review = open_reviews(self.view).get(review_id)
        if review is not None:
            return review
        decided = review_decision(self.view, review_id)
        if decided is None:
            raise ChangeRefusedError("unknown_review", f"No review {review_id} is open", LIST_REMEDY)
        sentence = f"{review_id} was {decided.decision} by {decided.decided_by} already"
        raise ChangeRefusedError("approval_used", sentence, LIST_REMEDY)

    async def _send_and_wait(self, vote: ReviewVote) -> None:
        refusals: dict[str, str] = {}

        def hear(batch: Sequence[LogRecord]) -> None:
            for record in batch:
                try:
                    said = self._codec.decode(ESCALATIONS, record.value)
                except PoisonRecordError:
                    continue
                if isinstance(said, Escalation):
                    refusals[said.escalation_id] = said.reason

        identity = vote_id(vote)
        watch = PartitionWatch(self._connection, full_name(ESCALATIONS), hear, from_end=True)
        try:
            await watch.start()
            await self._send_vote(vote)
            await self._first_answer(watch, vote, lambda: identity in refusals)
        finally:
            await watch.stop()
        if identity in refusals:
            code, _, sentence = refusals[identity].partition(": ")
            raise ChangeRefusedError(code, sentence.rstrip("."), f"`isos reviews show {vote.review_id}` shows it.")

    async def _send_vote(self, vote: ReviewVote) -> None:
        client = producer(self._connection, enable_idempotence=True)
        await start(client, "connecting to vote")
        try:
            value = self._codec.encode(VOTES, vote)
            sent = client.send_and_wait(full_name(VOTES), value, key=vote.review_id.encode())
            await bounded(sent, SEND_TIMEOUT_S, "sending the vote")
        finally:
            await stop_quietly(client)

    async def _first_answer(self, watch: PartitionWatch, vote: ReviewVote, is_refused: Callable[[], bool]) -> None:
        """Wait until the review is closed in memory, or the vote is refused. Raises WatchTimeoutError."""
        what = f"The Reviewer's answer about {vote.review_id}"

        def is_closed(view: MemoryView) -> bool:
            return vote.review_id not in open_reviews(view)

        tasks = (
            asyncio.ensure_future(self.wait_for(is_closed, what)),
            asyncio.ensure_future(watch.wait_for(is_refused, self._timeout_s, what)),
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for error in (each.exception() for each in done):
            if error is not None and not isinstance(error, WatchTimeoutError):
                raise error
        if not is_refused() and not is_closed(self.view):
            raise WatchTimeoutError(what, self._timeout_s)

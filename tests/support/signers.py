"""People who sign: keys by name, their registration, signed commands and votes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from agents.authorship import command_message, vote_message
from schemas.environment import Environment, Signer
from schemas.memory import MemoryCommand
from schemas.review import ReviewDecision, ReviewVote
from streams.canonical import to_json
from streams.memory_view import ActiveVersion
from streams.signing import public_key_of, sign

PRODUCTION = Environment("production", ("ActivateVersion",), False, 60)


def key_of(name: str) -> bytes:
    """The private key of a person, always the same."""
    return hashlib.sha256(name.encode()).digest()


def signer(name: str) -> Signer:
    """A person with their key."""
    return Signer(name, public_key_of(key_of(name)))


def signed(command: MemoryCommand, author: str, key: bytes | None = None) -> MemoryCommand:
    """The command as the author signs it, by their own key or another."""
    command = replace(command, author=author, signature="")
    return replace(command, signature=sign(key or key_of(author), command_message(command)))


def registration(name: str, body: Signer | None = None) -> MemoryCommand:
    """An unsigned registration of a person."""
    command_id = f"signer-{name}"
    return MemoryCommand(
        command_id, "cli", "RegisterSigner", f"signer/{name}", -1, to_json(body or signer(name)), "new", (), 5
    )


def two_people() -> tuple[MemoryCommand, MemoryCommand]:
    """Ann, the first, who is believed, and Bob, for whom she signs."""
    return registration("ann"), signed(registration("bob"), "ann")


def revocation(name: str, by: str = "", key: bytes | None = None, command_id: str = "rv") -> MemoryCommand:
    """Ends a person's key; signed by somebody, or by nobody."""
    body = to_json(replace(signer(name), revoked_us=5))
    command = MemoryCommand(command_id, "cli", "RevokeSigner", f"signer/{name}", -1, body, "lost", (), 5)
    return signed(command, by, key) if by else command


def environment_command(wanted: Environment, command_id: str = "env") -> MemoryCommand:
    """Sets the environment."""
    return MemoryCommand(command_id, "cli", "SetEnvironment", "environment", -1, to_json(wanted), "set", (), 5)


def activation(version: str = "v2.0.0", model: str = "digits", command_id: str = "a1") -> MemoryCommand:
    """Makes a version active."""
    body = to_json(ActiveVersion(model, version))
    return MemoryCommand(command_id, "cli", "ActivateVersion", f"active/{model}", -1, body, "because", (), 5)


def vote(
    review_id: str,
    subject_digest: str,
    name: str = "bob",
    decision: str = "approved",
    key: bytes | None = None,
    time_us: int = 1_000_000_000,
) -> ReviewVote:
    """A signed vote, by the person's own key or another, later than what tests ask."""
    made = ReviewVote(review_id, decision, name, "looks right", subject_digest, time_us)
    return replace(made, signature=sign(key or key_of(name), vote_message(made)))


def decision_of(given: ReviewVote, decided_us: int = 10) -> ReviewDecision:
    """What the Reviewer makes of a vote."""
    return ReviewDecision(
        *(given.review_id, given.decision, given.signer, given.reason, given.subject_digest, decided_us),
        *(given.signature, given.time_us),
    )

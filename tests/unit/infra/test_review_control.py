"""What `isos reviews` asks of the Orchestrator and the Reviewer, and how it understands them; no broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agents.approval import refused_vote
from agents.authorship import command_message
from agents.orchestrator import COMMANDS
from infra.memory_control import ChangeRefusedError
from infra.review_control import ReviewControl, gateable_kinds, signed_vote
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand
from schemas.review import ReviewVote
from streams.canonical import from_json
from streams.memory_view import MemoryView, Rejection
from streams.signing import verify
from tests.support.signers import PRODUCTION, decision_of, key_of, signer
from tests.unit.infra.test_review_list import OPEN
from tests.unit.streams.test_review_view import view_of

REVIEW = OpenReview(replace(OPEN.request, subject_digest="cd" * 32), OPEN.command)
ASKED = view_of(environment=PRODUCTION, signer__ann=signer("ann"), signer__bob=signer("bob"), review__r7=REVIEW)


class Control(ReviewControl):
    """Memory says ``view`` and, after a vote or a proposal, ``after``."""

    def __init__(self, view: MemoryView, after: MemoryView | None = None) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # nothing is connected
        self.now, self.after = view, after or view
        self.sent: list[Any] = []

    @property
    def view(self) -> MemoryView:
        return self.now

    async def propose(self, command: MemoryCommand, stands: Any, remedy: str, **_: Any) -> None:
        self.sent.append(command)
        self.now = self.after
        assert stands(self.now)

    async def _send_and_wait(self, vote: ReviewVote) -> None:
        self.sent.append(vote)
        self.now = self.after


def test_a_vote_is_signed_over_what_memory_says() -> None:
    vote = signed_vote(REVIEW, "approved", "fine", "bob", key_of("bob"), 5)
    assert (vote.review_id, vote.subject_digest) == ("r7", "cd" * 32)
    assert refused_vote(REVIEW.request, vote, signer("bob"), 6) is None


def done_view(decision_change: dict[str, Any], **more: Any) -> tuple[ReviewVote, MemoryView]:
    vote = signed_vote(REVIEW, "approved", "fine", "bob", key_of("bob"), 5)
    return vote, view_of(decision__r7=replace(decision_of(vote), **decision_change), **more)


def test_a_vote_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.review_control.time.time_ns", lambda: 5_000)
    vote, after = done_view({})
    control = Control(ASKED, after)
    outcome = asyncio.run(control.vote("r7", "approved", "fine", key_of("bob")))
    assert (control.sent, outcome.vote, outcome.refusal) == ([vote], vote, "")
    rejection = Rejection("a1", "version_mismatch", "It has changed.")
    _, after = done_view({}, rejections__a1=rejection)
    outcome = asyncio.run(Control(ASKED, after).vote("r7", "approved", "fine", key_of("bob")))
    assert outcome.refusal == "version_mismatch: It has changed."


def test_votes_that_cannot_hold() -> None:
    _, after = done_view({"signature": "00", "decided_by": "carol"})
    with pytest.raises(ChangeRefusedError, match="approval_used: r7 was approved by carol before"):
        asyncio.run(Control(ASKED, after).vote("r7", "approved", "fine", key_of("bob")))
    with pytest.raises(ChangeRefusedError, match="approval_used: r7 was approved by carol already"):
        asyncio.run(Control(after).vote("r7", "approved", "fine", key_of("bob")))
    with pytest.raises(ChangeRefusedError, match="unknown_review: No review r8") as refused:
        asyncio.run(Control(ASKED).vote("r8", "approved", "fine", key_of("bob")))
    assert refused.value.exit_code == 3
    with pytest.raises(ChangeRefusedError, match="unknown_signer: Nobody is registered with this key"):
        asyncio.run(Control(ASKED).vote("r7", "approved", "fine", key_of("eve")))


def test_a_registration_is_signed_by_the_key_it_registers() -> None:
    control = Control(MemoryView(), view_of(signer__eve=signer("eve")))
    assert asyncio.run(control.register("eve", key_of("eve"))) == signer("eve")
    (command,) = control.sent
    assert (command.kind, command.author) == ("RegisterSigner", "eve")
    assert verify(signer("eve").public_key, command_message(command), command.signature)
    assert asyncio.run(Control(ASKED).register("ann", key_of("ann"))) == signer("ann")


def test_a_revocation_names_the_key_that_ends() -> None:
    gone = replace(signer("ann"), revoked_us=9)
    control = Control(ASKED, view_of(signer__ann=gone))
    assert asyncio.run(control.revoke("ann")) == gone
    body = from_json(Signer, control.sent[0].body)
    assert (replace(body, revoked_us=0), body.revoked_us > 0) == (signer("ann"), True)
    assert asyncio.run(Control(view_of(signer__ann=gone)).revoke("ann")) == gone
    with pytest.raises(ChangeRefusedError, match="unknown_name: eve is no registered signer") as refused:
        asyncio.run(Control(ASKED).revoke("eve"))
    assert refused.value.exit_code == 3


def test_a_revocation_is_signed_by_the_key_that_was_named() -> None:
    control = Control(ASKED, view_of(signer__ann=replace(signer("ann"), revoked_us=9)))
    asyncio.run(control.revoke("ann", key_of("bob")))
    (command,) = control.sent
    assert command.author == "bob"
    assert verify(signer("bob").public_key, command_message(command), command.signature)
    with pytest.raises(ChangeRefusedError, match="unknown_signer: Nobody is registered with this key"):
        asyncio.run(Control(ASKED).revoke("ann", key_of("eve")))


def test_an_environment_gates_commands_that_there_are() -> None:
    wanted = Environment("staging", ("SetServingPolicy",), False, 9)
    control = Control(ASKED, view_of(environment=wanted))
    assert asyncio.run(control.set_environment(wanted)) == wanted
    assert [command.kind for command in control.sent] == ["SetEnvironment"]
    with pytest.raises(ChangeRefusedError, match="unknown_kind: No command Sudo can wait"):
        asyncio.run(Control(ASKED).set_environment(replace(wanted, gated=("Sudo",))))
    with pytest.raises(ChangeRefusedError, match="No command RegisterModel can wait"):
        asyncio.run(Control(ASKED).set_environment(replace(wanted, gated=("RegisterModel",))))


def test_what_an_environment_gates_are_commands_of_people() -> None:
    assert {"ActivateVersion", "SetServingPolicy"} <= set(gateable_kinds())
    assert all("cli" in COMMANDS[kind][0] for kind in gateable_kinds())

"""State machine of approvals: people, a Reviewer and an Orchestrator who trusts neither, in a production environment.

Whatever is asked, voted, forged, repeated, delayed or expires, and whoever dies: the version that serves changes only
by a command that another registered person approved, once, with their own signature on exactly that command, in time,
and who may sign only by somebody who may. What of that is broken, ``tests.sim.review_rules`` says.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.approval import DEVELOPMENT
from agents.authorship import command_message, vote_message
from agents.orchestrator import ORCHESTRATOR
from agents.reviewer import REVIEWER
from schemas.environment import Environment, OpenReview, Signer
from schemas.memory import MemoryCommand
from schemas.review import ReviewDecision, ReviewVote
from streams.canonical import digest, from_json, to_json
from streams.memory_view import ActiveVersion
from streams.signing import public_key_of, sign
from tests.sim.review_rules import ReviewRules
from tests.support.agent_bench import CODEC, AgentBench
from tests.support.control import model_version

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

SECOND = 1_000_000
REVIEW_S = 60
KEYS = {"alice": bytes([1]) * 32, "bob": bytes([2]) * 32, "mallory": bytes([3]) * 32}
"""Mallory has a key that nobody registered."""
PEOPLE = st.sampled_from(sorted(KEYS))
BY = st.sampled_from(("self", "self", "self", "nobody", *sorted(KEYS)))
"""Whose key signs: mostly one's own, or nothing would ever be open to be attacked."""
VERSIONS = st.sampled_from(("v1.0.0", "v1.1.0", "v1.2.0"))
AGENTS = ("orchestrator", "reviewer")


class ReviewMachine(RuleBasedStateMachine):
    """Alice and Bob are registered; activating a version waits for the other one."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = AgentBench((ORCHESTRATOR, REVIEWER))
        self.law = ReviewRules(self.command_at)
        self.judged = 0
        self.number = 0
        for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
            facts = model_version("digits", version)
            self.command("RegisterModel", f"model/digits/{version}", to_json(facts))
        for name in ("alice", "bob"):
            self.signed("RegisterSigner", f"signer/{name}", to_json(Signer(name, public_key_of(KEYS[name]))), "alice")
        wanted = Environment("production", development_policy=False, review_s=REVIEW_S)
        self.command("SetEnvironment", "environment", to_json(wanted))
        self.bench.settle()
        assert "environment" in self.bench.view().entries

    def command(self, kind: str, key: str, body: str) -> MemoryCommand:
        self.number += 1
        command = MemoryCommand(f"c{self.number}", "cli", kind, key, -1, body, "asked", (), self.bench.now_us)
        self.bench.put("memory.commands", key, command)
        return command

    def signed(self, kind: str, key: str, body: str, author: str, by: str = "self") -> None:
        """A command in somebody's name, by their own key, another's or nobody's."""
        self.number += 1
        command = MemoryCommand(f"c{self.number}", "cli", kind, key, -1, body, "wanted", (), 1, author=author)
        if by != "nobody":
            key_bytes = KEYS[author if by == "self" else by]
            command = replace(command, signature=sign(key_bytes, command_message(command)))
        self.bench.put("memory.commands", key, command)

    def command_at(self, offset: int) -> MemoryCommand | None:
        """The command at an offset, or None."""
        held = self.bench.log["memory.commands"]
        record = CODEC.decode("memory.commands", held[offset].value) if offset < len(held) else None
        return record if isinstance(record, MemoryCommand) else None

    # What people do.

    @rule(author=PEOPLE, by=BY, version=VERSIONS)
    def ask(self, author: str, by: str, version: str) -> None:
        """Somebody wants another version to serve, in their own name or in another's."""
        self.signed("ActivateVersion", "active/digits", to_json(ActiveVersion("digits", version)), author, by)

    @rule(signer=PEOPLE, by=BY, which=st.integers(0, 5), approved=st.booleans(), other=st.booleans())
    def vote(self, signer: str, by: str, which: int, approved: bool, other: bool) -> None:
        """Somebody votes on an open review; ``other``: on something else than what it holds."""
        reviews = self.open_reviews()
        if not reviews:
            return
        request = reviews[which % len(reviews)].request
        about = digest(("other",)).hex() if other else request.subject_digest
        decision = "approved" if approved else "rejected"
        time_us = max(self.bench.now_us, request.requested_us)  # the journal's time may be a little ahead
        vote = ReviewVote(request.review_id, decision, signer, "so it is", about, time_us)
        if by != "nobody":
            vote = replace(vote, signature=sign(KEYS[signer if by == "self" else by], vote_message(vote)))
        self.bench.put("control.review-votes", vote.review_id, vote)

    @rule(name=st.sampled_from(("alice", "bob")), author=PEOPLE, by=BY, surely=st.integers(0, 4))
    def revoke(self, name: str, author: str, by: str, surely: int) -> None:
        """A key is to end; where the signature holds only now and then: without two people nothing is approved."""
        entry = self.bench.view().entries.get(f"signer/{name}")
        if entry is not None and (surely == 0 or by == "nobody" or author == "mallory"):
            gone = replace(from_json(Signer, entry.body), revoked_us=self.bench.now_us)
            self.signed("RevokeSigner", f"signer/{name}", to_json(gone), author, by)

    @rule(author=st.sampled_from(("alice", "mallory")), by=BY)
    def let_mallory_in(self, author: str, by: str) -> None:
        """She becomes somebody only by her own signature and another's approval."""
        mallory = Signer("mallory", public_key_of(KEYS["mallory"]))
        self.signed("RegisterSigner", "signer/mallory", to_json(mallory), author, by)

    @rule()
    def call_it_a_sandbox(self) -> None:
        """Nobody lowers the environment without an approval either: it is unsigned."""
        self.command("SetEnvironment", "environment", to_json(Environment()))

    # What an attacker with access to the topics does.

    @rule(topic=st.sampled_from(("control.review-votes", "control.review-decisions")), at=st.integers(0, 50))
    def replay(self, topic: str, at: int) -> None:
        """What stood on a topic stands there once more."""
        standing = self.bench.log.get(topic, [])
        if standing:
            held = standing[at % len(standing)]
            self.bench.put(topic, held.key.decode(), held.value or b"", held.source if at % 2 else "")

    @rule(which=st.integers(0, 5), by=st.sampled_from((DEVELOPMENT, "reviewer", "alice", "bob")), at=st.integers(0, 50))
    def forge_a_decision(self, which: int, by: str, at: int) -> None:
        """A decision that no Reviewer made: unsigned, or with a signature that somebody gave for another review."""
        reviews = self.open_reviews()
        if not reviews:
            return
        request = reviews[which % len(reviews)].request
        votes = [each for each in self.bench.records("control.review-votes") if each.signer == by]
        signature = votes[at % len(votes)].signature if votes else ""
        forged = ReviewDecision(
            request.review_id, "approved", by, "so it is", request.subject_digest, self.bench.now_us, signature,
            self.bench.now_us,
        )  # fmt: skip
        self.bench.put("control.review-decisions", forged.review_id, forged)

    @rule(which=st.integers(0, 5))
    def expire_early(self, which: int) -> None:
        reviews = self.open_reviews()
        if reviews:
            request = reviews[which % len(reviews)].request
            early = ReviewDecision(
                request.review_id, "expired", "reviewer", "", request.subject_digest, self.bench.now_us
            )
            self.bench.put("control.review-decisions", early.review_id, early)

    # What happens to the agents.

    @rule(agent=st.sampled_from(AGENTS), which=st.integers(0, 9), dies=st.booleans())
    def deliver(self, agent: str, which: int, dies: bool) -> None:
        topics = self.bench.unread(agent)
        if topics:
            self.bench.deliver(agent, topics[which % len(topics)], loses_effects=dies)
        if dies:
            self.bench.restart(agent)

    @rule(seconds=st.sampled_from((1, 5, REVIEW_S, REVIEW_S + 2)))
    def wait(self, seconds: int) -> None:
        self.bench.now_us += seconds * SECOND
        for agent in AGENTS:
            self.bench.tick(agent)

    @rule()
    def settle(self) -> None:
        self.bench.settle()

    # What must hold.

    def open_reviews(self) -> list[OpenReview]:
        entries = self.bench.view().entries
        return [from_json(OpenReview, entries[key].body) for key in sorted(entries) if key.startswith("review/")]

    @invariant()
    def only_what_another_person_approved_changes_what_serves(self) -> None:
        stored = self.bench.stored()
        for each in stored[self.judged :]:
            assert list(self.law.take(each.event)) == []
        self.judged = len(stored)

    def teardown(self) -> None:
        """Nothing waits for ever."""
        self.bench.settle()
        self.bench.now_us += (REVIEW_S + 2) * SECOND
        self.bench.settle(15)
        assert self.open_reviews() == []
        self.only_what_another_person_approved_changes_what_serves()


TestReview = ReviewMachine.TestCase
TestReview.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_the_machine_reaches_an_approved_change() -> None:
    """The way that is meant to work does: what the machine allows is not empty."""
    machine = ReviewMachine()
    machine.ask("alice", "self", "v1.1.0")
    machine.settle()
    machine.vote("alice", "self", 0, True, False)
    machine.settle()
    assert len(machine.open_reviews()) == 1
    machine.vote("bob", "self", 0, True, False)
    machine.settle()
    body = machine.bench.view().entries["active/digits"].body
    assert from_json(ActiveVersion, body).version == "v1.1.0"
    reasons = [each.reason for each in machine.bench.records("control.escalations")]
    assert any(reason.startswith("self_approval") for reason in reasons)
    machine.replay("control.review-decisions", 0)
    machine.settle()
    assert from_json(ActiveVersion, machine.bench.view().entries["active/digits"].body).version == "v1.1.0"
    reasons = [each.reason for each in machine.bench.records("control.escalations")]
    assert any(reason.startswith("approval_used") for reason in reasons)
    machine.teardown()


def test_the_machine_reaches_a_key_that_ends() -> None:
    """By a registered signature; a stranger's ends none."""
    machine = ReviewMachine()
    for author, by in (("mallory", "self"), ("alice", "mallory"), ("alice", "nobody")):
        machine.revoke("bob", author, by, 0)
        machine.settle()
        assert from_json(Signer, machine.bench.view().entries["signer/bob"].body).revoked_us == 0
    machine.revoke("bob", "alice", "self", 0)
    machine.settle()
    assert from_json(Signer, machine.bench.view().entries["signer/bob"].body).revoked_us > 0
    machine.teardown()

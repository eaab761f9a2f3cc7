"""State machine of memory: the Orchestrator among good, stale, forged and repeated commands, and three ways to read.

Rules of the surroundings: commands of permitted and other agents with any expected version, the same again, records
that others put on memory's topic, an Orchestrator that dies before or after it sends. What must hold is said by the
model, which knows only what a command asked for and which version its key had then.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import agents.orchestrator
from agents.monitor import MONITOR
from agents.orchestrator import COMMANDS, ORCHESTRATOR
from agents.verdict import ANY_VERSION
from schemas.cache import CachePolicy
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import ContextSignal
from schemas.serving import ServingPolicy
from schemas.shadow import ShadowPolicy
from streams.canonical import to_json
from streams.memory_fold import extend
from streams.memory_view import ActiveVersion, MemoryView
from tests.support.agent_bench import CODEC, EVENTS, AgentBench
from tests.support.control import model_version

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

MODELS = ("alpha", "beta")
VERSIONS = ("v1.0.0", "v1.1.0")
KEPT = 6
SENDERS = ("cli", "planner", "monitor", "researcher", "router")


def asked(kind: str, model: str, version: str, number: int) -> tuple[str, str]:
    """Key and body of a command."""
    match kind:
        case "RegisterModel":
            return f"model/{model}/{version}", to_json(model_version(model, version))
        case "ActivateVersion":
            return f"active/{model}", to_json(ActiveVersion(model, version))
        case "SetServingPolicy":
            return f"serving/{model}", to_json(ServingPolicy(model, max_attempts=1 + number % 5))
        case "SetShadow":
            return f"shadow/{model}", to_json(ShadowPolicy(model, version, number % 4))
        case "SetCachePolicy":
            return f"cache/{model}", to_json(CachePolicy(model, True, number, 60))
    signal = ContextSignal(model, "constraint", f"model/{model}", str(number), "rules file", 1)
    return f"context/{model}", to_json(signal)


KINDS = ("RegisterModel", "ActivateVersion", "SetServingPolicy", "SetCachePolicy", "SetShadow", "NoteContext")


class MemoryMachine(RuleBasedStateMachine):
    """``versions``: of each key, counted by the model from the events; ``follower``: a reader that was always there."""

    def __init__(self) -> None:
        super().__init__()
        self.saved = agents.orchestrator.KEPT_REJECTIONS
        agents.orchestrator.KEPT_REJECTIONS = KEPT  # type: ignore[misc]
        self.bench = AgentBench((ORCHESTRATOR,))
        self.follower = MemoryView()
        self.followed = 0
        self.commands: list[MemoryCommand] = []
        self.refused: set[str] = set()
        self.number = 0

    @rule(
        kind=st.sampled_from(KINDS),
        model=st.sampled_from(MODELS),
        version=st.sampled_from(VERSIONS),
        agent=st.sampled_from(SENDERS),
        expected=st.sampled_from(("any", "right", "stale")),
    )
    def command(self, kind: str, model: str, version: str, agent: str, expected: str) -> None:
        """One command, handled at once, judged by what memory held before."""
        self.number += 1
        key, body = asked(kind, model, version, self.number)
        view = self.bench.view()
        standing = 0 if key not in view.entries else view.entries[key].version
        wanted = {"any": ANY_VERSION, "right": standing, "stale": standing + 1}[expected]
        same = key in view.entries and view.entries[key].body == body
        command = MemoryCommand(f"c{self.number}", agent, kind, key, wanted, body, "asked", (), self.number)
        self.commands.append(command)
        events = self.handled(command)
        permitted = agent in COMMANDS[kind][0]
        if not permitted or (expected == "stale" and not same):
            assert [event.kind for event in events[:1]] == ["CommandRejected"], events
            assert key not in {event.key for event in events}
        if events and events[0].kind == "CommandRejected":
            self.refused.add(command.command_id)
        elif any(event.key == key for event in events):
            assert permitted
            assert {event.version for event in events if event.key == key} == {standing + 1}

    def handled(self, command: MemoryCommand) -> list[MemoryEvent]:
        """Put a command on the log, deliver it, and return the events that came of it."""
        before = len(self.bench.stored())
        self.bench.put("memory.commands", command.key, command)
        while self.bench.unread("orchestrator"):
            self.bench.deliver("orchestrator", "memory.commands")
        return [stored.event for stored in self.bench.stored()[before:]]

    @rule(at=st.integers(0, 50))
    def repeat(self, at: int) -> None:
        """What was handled once is not handled again, in whatever order it comes."""
        if self.commands:
            assert self.handled(self.commands[at % len(self.commands)]) == []

    @rule(after=st.booleans())
    def die(self, after: bool) -> None:
        """A kill behind the journal entry: nothing of a command is lost, and nothing is done twice."""
        self.number += 1
        policy = ServingPolicy("alpha", max_attempts=1 + self.number % 5)
        command = MemoryCommand(
            f"c{self.number}", "cli", "SetServingPolicy", "serving/alpha", ANY_VERSION, to_json(policy), "", (), 1
        )
        self.commands.append(command)
        self.bench.put("memory.commands", command.key, command)
        self.bench.deliver("orchestrator", "memory.commands", loses_effects=not after)
        self.bench.restart("orchestrator")
        while self.bench.unread("orchestrator"):
            assert self.bench.deliver("orchestrator", "memory.commands") == []
        if f"rejections/{command.command_id}" in self.bench.view().entries:
            self.refused.add(command.command_id)

    @rule(gap=st.integers(0, 3), rubbish=st.booleans())
    def forge(self, gap: int, rubbish: bool) -> None:
        """Somebody else writes to memory without knowing where its chain ends."""
        event = MemoryEvent(
            self.bench.head.sequence + gap, b"\1" * 32, "forged", "operator", "VersionActivated", "active/alpha", 1,
            to_json(ActiveVersion("alpha", "v9.9.9")), "", (), 1,
        )  # fmt: skip
        self.bench.put(EVENTS, event.key, b"rubbish" if rubbish else event)

    @rule()
    def follow(self) -> None:
        """The reader that was always there reads on."""
        stored = self.bench.stored()
        self.follower, _ = extend(self.follower, stored[self.followed :])
        self.followed = len(stored)

    @invariant()
    def all_ways_to_read_agree(self) -> None:
        fresh = self.bench.view()
        values = self.bench.agents["orchestrator"].state.values
        assert {key: (entry.version, entry.body) for key, entry in fresh.entries.items()} == {
            key: (value.version, value.body) for key, value in values.items()
        }
        assert fresh.head == self.bench.head
        caught_up, _ = extend(self.follower, self.bench.stored()[self.followed :])
        assert caught_up == fresh
        assert not any("v9.9.9" in entry.body for entry in fresh.entries.values())

    @invariant()
    def rejections_are_bounded(self) -> None:
        view = self.bench.view()
        kept = [key for key in view.entries if key.startswith("rejections/")]
        assert len(kept) <= KEPT
        assert {key.removeprefix("rejections/") for key in kept} <= self.refused

    @invariant()
    def every_event_has_a_cause_in_the_log(self) -> None:
        offsets = range(len(self.bench.log.get("memory.commands", [])))
        ids = {command.command_id for command in self.commands}
        for stored in self.bench.stored():
            if stored.event.command_id == "forged":
                continue
            assert stored.event.command_id in ids
            assert stored.event.causes[-1].offset in offsets

    def teardown(self) -> None:
        agents.orchestrator.KEPT_REJECTIONS = self.saved  # type: ignore[misc]


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_forger_who_knows_the_chain_shows_by_the_writers_next_event() -> None:
    """The chain alone cannot tell the two apart; that they are two is seen, by every reader and by the Monitor."""
    bench = AgentBench((ORCHESTRATOR, MONITOR))
    bench.put("memory.commands", "k", registration("alpha"))
    bench.settle()
    forged = MemoryEvent(
        bench.head.sequence + 1, bench.head.last_hash, "forged", "orchestrator", "VersionActivated", "active/alpha", 2,
        to_json(ActiveVersion("alpha", "v9.9.9")), "", (), 1,
    )  # fmt: skip
    bench.put(EVENTS, forged.key, forged)
    bench.settle()
    assert [alert.kind for alert in bench.records("control.alerts")] == []
    bench.put("memory.commands", "k", registration("beta"))
    bench.settle()
    (alert,) = bench.records("control.alerts")
    assert (alert.kind, alert.subject, alert.resolved) == ("forged_memory", "memory.events", False)


def registration(model: str) -> MemoryCommand:
    body = to_json(model_version(model))
    return MemoryCommand(f"r/{model}", "cli", "RegisterModel", f"model/{model}/v1.0.0", 0, body, "", (), 1)


def test_values_are_read_as_bytes() -> None:
    """The bench goes through the codec, as a broker would have it."""
    bench = AgentBench((ORCHESTRATOR,))
    bench.put("memory.commands", "k", registration("alpha"))
    bench.settle()
    assert all(isinstance(held.value, bytes) for held in bench.log[EVENTS])
    assert CODEC.decode(EVENTS, bench.log[EVENTS][0].value).kind == "ModelRegistered"

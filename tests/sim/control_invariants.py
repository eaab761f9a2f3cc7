"""What must hold of memory and of the control agents after every step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from schemas.journal import JournalEntry
from schemas.memory import MemoryCommand
from streams.canonical import from_json
from streams.control.effect_id import EFFECT_HEADER, effect_id
from streams.control.replay import Replay
from streams.memory_fold import StoredEvent, extend, void_reason
from streams.memory_log import LogRecord
from streams.memory_view import ActiveVersion, MemoryHead, MemoryView
from streams.topics import JOURNALED_AGENTS
from tests.sim.agent_invariants import AgentInvariants
from tests.sim.bounds import BOUNDS
from tests.sim.canary_rules import CanaryRules
from tests.sim.group import Place
from tests.sim.people import FORGED
from tests.sim.review_rules import ReviewRules
from tests.sim.rollback_rules import RollbackRules
from tests.sim.world import World

FOLD: Final = "state is the fold of the log"
CHAIN: Final = "memory is one chain"
JOURNAL: Final = "journal is dense"
JOURNALED: Final = "no effect without its journal entry"
VERSION: Final = "a version never goes back without a rollback"
COMMITTED: Final = "committed inputs are in the journal"
REPLAYED: Final = "a replay of the journal decides the same"

EVENTS = "memory.events"


class ControlInvariants:
    """``views``: memory after each event; ``effects``: what the journals say was to be sent, by effect id."""

    def __init__(self, world: World, violated: Callable[..., None]) -> None:
        self.world = world
        self.violated = violated
        self.head = MemoryHead()
        self.views = [MemoryView()]
        self.versions: dict[str, int] = {}
        self.active: dict[str, str] = {}
        self.journal: dict[str, int] = {}
        self.replays = {spec.name: Replay(spec, world.codec) for spec in world.agents}
        self.agents = AgentInvariants(world, violated)
        self.reviews = ReviewRules(self.command_at)
        self.rollbacks = RollbackRules(BOUNDS["agents.rollback"][1])
        self.canaries = CanaryRules()
        self.num_forged = 0
        self.cursors: dict[tuple[str, Place], int] = {}
        self.sources: set[tuple[str, str]] = set()
        self.effects: dict[str, tuple[str, bytes | None]] = {}
        self.events: dict[int, bytes | None] = {}
        self.sent: set[str] = set()

    def appended(self, record: LogRecord) -> None:
        """A record of the control plane."""
        match record.topic:
            case "memory.events":
                self.memory(record.value or b"")
            case "memory.state":
                self.state(record)
            case "control.journal":
                self.journaled(self.world.codec.decode(record.topic, record.value))
                self.replayed(record)
            case _:
                self.effect(record)

    def memory(self, value: bytes) -> None:
        event = self.world.readable(EVENTS, value)
        if event is None:
            self.num_forged += 1
            return
        reason = void_reason(self.head, event)
        if reason is not None and event.command_id == FORGED:
            self.num_forged += 1
            return
        if reason is not None:
            self.violated(CHAIN, reason, "memory.events")
            return
        self.head = MemoryHead(event.sequence, hashlib.sha256(value).digest())
        self.views.append(extend(self.views[-1], [StoredEvent.of(event, value)])[0])
        wanted = self.events.get(event.sequence)
        if wanted is None or self.world.codec.decode(EVENTS, wanted).command_id != event.command_id:
            self.violated(JOURNALED, f"memory event {event.sequence} is not an effect of a journaled entry")
        if event.body is None:
            self.versions.pop(event.key, None)
        elif event.version <= self.versions.get(event.key, 0):
            self.violated(CHAIN, f"version {event.version} of {event.key} does not follow {self.versions[event.key]}")
        else:
            self.versions[event.key] = event.version
        self.world.count(f"memory {event.kind}{' by itself' if event.agent == 'orchestrator' else ''}")
        for rule, what in (*self.reviews.take(event), *self.rollbacks.take(event), *self.canaries.take(event)):
            self.violated(rule, what, event.key)
        if event.key.startswith("active/") and event.body is not None:
            self.activated(event.key, from_json(ActiveVersion, event.body).version, event.kind)

    def command_at(self, offset: int) -> MemoryCommand | None:
        """The command at an offset of ``memory.commands``, or None where there is none that can be read."""
        for record in self.world.log.read("memory.commands", 0, offset, 1):
            command = self.world.readable("memory.commands", record.value) if record.offset == offset else None
            return command if isinstance(command, MemoryCommand) else None
        return None

    def activated(self, key: str, version: str, kind: str) -> None:
        """The version that serves a model only goes up, unless the event says that it is a rollback."""
        rank = [int(part) for part in version.removeprefix("v").split(".")]
        before = [int(part) for part in self.active.get(key, "v0.0.0").removeprefix("v").split(".")]
        if rank < before and "RolledBack" not in kind:
            self.violated(VERSION, f"{key} goes from {self.active[key]} to {version} by {kind}")
        self.active[key] = version

    def state(self, record: LogRecord) -> None:
        """What is written to memory.state is what the events say at that moment."""
        entry = self.views[-1].entries.get((record.key or b"").decode())
        given = None if record.value is None else self.world.codec.decode(record.topic, record.value)
        if given != entry:
            self.violated(FOLD, f"memory.state says of {record.key!r} what the events do not")

    def journaled(self, entry: JournalEntry) -> None:
        if entry.sequence != self.journal.get(entry.agent, 0) + 1:
            self.violated(
                JOURNAL, f"entry {entry.sequence} of {entry.agent} follows {self.journal.get(entry.agent, 0)}"
            )
        self.journal[entry.agent] = entry.sequence
        place = (entry.input_topic, entry.input_partition)
        self.cursors[entry.agent, place] = max(entry.input_offset, self.cursors.get((entry.agent, place), -1))
        if entry.effect_source:
            self.sources.add((entry.agent, entry.effect_source))
        self.agents.journaled(entry)
        for index, effect in enumerate(entry.effects):
            if effect.topic == EVENTS:
                self.events[self.world.codec.decode(EVENTS, effect.value).sequence] = effect.value
            else:
                self.effects[effect_id(entry, index)] = (effect.topic, effect.value)

    def replayed(self, record: LogRecord) -> None:
        """What was journaled under faults is what a fold from the first entry decides, at every snapshot too."""
        for agent, replay in self.replays.items():
            if JOURNALED_AGENTS.index(agent) == record.partition:
                found = replay.take(record.offset, record.value)
                if found is not None:
                    self.violated(REPLAYED, f"{agent} at {found.sequence}: {found.what}")

    def effect(self, record: LogRecord) -> None:
        """A record with an effect id is what the journal says, and the journal said so first."""
        source = source_header(record)
        if not source:
            return
        if self.effects.get(source) != (record.topic, record.value):
            self.violated(JOURNALED, f"{record.topic}@{record.offset} is effect {source}, which the journal has not")
        self.sent.add(source)

    def committed(self, agent: str, record: LogRecord) -> None:
        """A committed input is in the journal, or carried an effect that is, or told the agent nothing."""
        place = (record.topic, record.partition)
        known = record.offset <= self.cursors.get((agent, place), -1)
        known = known or (agent, id(self.world.readable(record.topic, record.value))) in self.world.ignored
        if not known and (agent, source_header(record)) not in self.sources:
            self.violated(COMMITTED, f"{record.topic}@{record.offset} is not in the journal of {agent}")

    def unsettled(self) -> str:
        """What was journaled and has not come about, or an empty string."""
        if self.num_forged and self.world.profile.control and not self.agents.forgeries:
            return f"memory has {self.num_forged} records of somebody else, and the Monitor tells nobody"
        unsent = [source for source in self.effects if source not in self.sent]
        if unsent:
            return f"the effects {unsent[:3]} are in the journal and were never sent"
        unwritten = [sequence for sequence in self.events if sequence > self.head.sequence]
        if unwritten:
            return f"the memory events {unwritten[:3]} are in the journal and were never written"
        state = {record.key: record.value for record in self.world.log.scan("memory.state", 0)}
        entries = {key.encode(): entry for key, entry in self.views[-1].entries.items()}
        decode = self.world.codec.decode
        if {key: decode("memory.state", value) for key, value in state.items() if value is not None} != entries:
            return "memory.state is not what the events of memory say"
        return ""


def source_header(record: LogRecord) -> str:
    """Id of the effect that a record carries, or an empty string."""
    return next((value.decode() for name, value in record.headers if name == EFFECT_HEADER), "")

"""Journaled control agents over one log without a broker: nothing moves but what a test moves, record by record.

Each agent reads each of its topics from its own position; what it emits is appended, memory's events with their chain
as the event store writes them. An agent that is restarted comes back from its journal and sends its last effects once
more, as the control loop does.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.journal import JournalEntry
from streams.agent import AgentSpec
from streams.codec import Codec, SchemaIds
from streams.control.effect_id import effect_id
from streams.control.journal import TICK_INPUT, Input, JournaledAgent, restore
from streams.errors import PoisonRecordError
from streams.memory_fold import StoredEvent, extend, void_reason
from streams.memory_view import MemoryHead, MemoryView

EVENTS = "memory.events"
CODEC = Codec(SchemaIds.local())
RESENT = 5
"""Entries whose effects a restarted agent sends again."""


@dataclass(frozen=True, slots=True)
class Held:
    """A record of the log: key, value and the effect that it is, if it is one."""

    key: bytes
    value: bytes | None
    source: str = ""


@dataclass(slots=True)
class AgentBench:
    """``log``: records by topic; ``positions``: of each agent in each topic; ``journals``: entries by agent."""

    specs: Sequence[AgentSpec]
    now_us: int = 1_000_000
    log: dict[str, list[Held]] = field(default_factory=dict)
    agents: dict[str, JournaledAgent] = field(default_factory=dict)
    journals: dict[str, list[JournalEntry]] = field(default_factory=dict)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    head: MemoryHead = field(default_factory=MemoryHead)
    _stored: list[StoredEvent] = field(default_factory=list)
    _read: int = 0

    def __post_init__(self) -> None:
        for spec in self.specs:
            self.agents[spec.name] = JournaledAgent(spec, CODEC)
            self.journals[spec.name] = []

    def put(self, topic: str, key: str, record: Any, source: str = "") -> None:
        """Append a record of anybody's; bytes are appended as they are."""
        value = record if isinstance(record, bytes) else CODEC.encode(topic, record)
        self.log.setdefault(topic, []).append(Held(key.encode(), value, source))

    def records(self, topic: str) -> list[Any]:
        """What stands on a topic, decoded."""
        return [CODEC.decode(topic, held.value) for held in self.log.get(topic, [])]

    def unread(self, name: str) -> list[str]:
        """Topics that have something for an agent."""
        spec = self.agents[name].spec
        topics = (*spec.watches, *spec.consumes)
        return [topic for topic in topics if self.positions.get((name, topic), 0) < len(self.log.get(topic, []))]

    def deliver(self, name: str, topic: str, *, loses_effects: bool = False) -> list[JournalEntry]:
        """Give an agent the next record of a topic; ``loses_effects``: it journals and dies before it sends."""
        at = self.positions.get((name, topic), 0)
        self.positions[name, topic] = at + 1
        held = self.log[topic][at]
        return self._step(name, Input(topic, 0, at, held.key, held.value, held.source), loses_effects)

    def tick(self, name: str) -> list[JournalEntry]:
        """Let an agent see the clock."""
        return self._step(name, TICK_INPUT, False)

    def restart(self, name: str) -> None:
        """Bring an agent back from its journal; inputs that it had are given once more from the last one on."""
        spec, entries = self.agents[name].spec, self.journals[name]
        before = self.agents[name].state
        self.agents[name], divergences = restore(spec, CODEC, entries)
        assert not divergences
        assert self.agents[name].state == before
        for entry in entries[-RESENT:]:
            self._send(entry)
        for topic in (*spec.watches, *spec.consumes):
            self.positions[name, topic] = max(0, self.positions.get((name, topic), 0) - 1)

    def settle(self, ticks: int = 0, step_us: int = 1_000_000) -> None:
        """Deliver everything to everybody, then that many ticks with what they cause."""
        for number in range(ticks + 1):
            if number:
                self.now_us += step_us
                for name in self.agents:
                    self.tick(name)
            for _ in range(10_000):
                waiting = [(name, topic) for name in self.agents for topic in self.unread(name)]
                if not waiting:
                    break
                for name, topic in waiting:
                    self.deliver(name, topic)
            else:
                raise AssertionError("the agents never come to rest")

    def stored(self) -> list[StoredEvent]:
        """The records of memory that can be read, forged ones too."""
        for held in self.log.get(EVENTS, [])[self._read :]:
            with contextlib.suppress(PoisonRecordError):
                self._stored.append(StoredEvent.of(CODEC.decode(EVENTS, held.value), held.value or b""))
        self._read = len(self.log.get(EVENTS, []))
        return list(self._stored)

    def view(self) -> MemoryView:
        """Memory as a reader who starts now folds it."""
        return extend(MemoryView(), self.stored())[0]

    def _step(self, name: str, given: Input, loses_effects: bool) -> list[JournalEntry]:
        entry = self.agents[name].step(given, self.now_us)
        if entry is None:
            return []
        self.journals[name].append(entry)
        if not loses_effects:
            self._send(entry)
        return [entry]

    def _send(self, entry: JournalEntry) -> None:
        for index, effect in enumerate(entry.effects):
            if effect.topic == EVENTS:
                self.write(CODEC.decode(EVENTS, effect.value))
            else:
                held = Held(effect.key, effect.value, effect_id(entry, index))
                self.log.setdefault(effect.topic, []).append(held)

    def write(self, event: Any) -> None:
        """Append an event of memory unless it stands there, as ``streams.control.event_store`` does."""
        if event.sequence <= self.head.sequence:
            return
        chained = replace(event, prev_hash=self.head.last_hash)
        assert void_reason(self.head, chained) is None, "the Orchestrator left a gap"
        value = CODEC.encode(EVENTS, chained)
        self.head = MemoryHead(chained.sequence, hashlib.sha256(value).digest())
        self.log.setdefault(EVENTS, []).append(Held(chained.key.encode(), value))

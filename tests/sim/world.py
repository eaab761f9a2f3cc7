"""What all simulated processes share: log, clock, chance, links to the broker, groups, and the story so far.

A send is under way on a link (one per producer, topic and partition) until a step delivers it, in order; its outcome
then waits on the link until its producer takes it. A link outlives its producer: what a killed process had under way
lands later or never.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streams.agent import AgentSpec
from streams.codec import Codec, SchemaIds
from streams.errors import FencedError, PoisonRecordError
from streams.memory_log import LogRecord, MemoryLog
from streams.topics import JOURNALED_AGENTS
from tests.sim.control_agents import agents_of
from tests.sim.group import Group, Place
from tests.sim.profile import FOREVER_US as FOREVER_US
from tests.sim.profile import Profile

TOPIC_ID: Final = bytes(range(16))
START_US: Final = 1_700_000_000_000_000
REQUEST_PARTITIONS: Final = 2
LANES: Final = 2
STORY_LENGTH: Final = 30

TOPICS: Final = {
    "inference.requests": REQUEST_PARTITIONS,
    "inference.admitted": REQUEST_PARTITIONS,
    "inference.routed": LANES,
    "inference.retries": REQUEST_PARTITIONS,
    "inference.executed": REQUEST_PARTITIONS,
    "inference.results": REQUEST_PARTITIONS,
    "inference.ledger-checkpoints": REQUEST_PARTITIONS,
    "inference.dlq": 1,
    "control.plans": 1,
    "control.context": 1,
    "control.alerts": 1,
    "control.heartbeats": 1,
    "control.executor-load": 1,
    "control.load": 1,
    "control.statistics": 1,
    "control.journal": len(JOURNALED_AGENTS),
    "memory.commands": 1,
    "memory.events": 1,
    "memory.state": 1,
}
GROUPS: Final = {
    "edge": ("inference.requests",),
    "router": ("inference.admitted", "inference.retries"),
    "executor": ("inference.routed",),
    "validator": ("inference.executed",),
}


def topics_of(agents: Sequence[AgentSpec]) -> dict[str, int]:
    """The topics of a world with these control agents; those of the control plane have one partition."""
    named = [topic for spec in agents for topic in (*spec.consumes, *spec.watches, *spec.emits)]
    return {**TOPICS, **{topic: 1 for topic in named if topic not in TOPICS}}


def groups_of(agents: Sequence[AgentSpec]) -> dict[str, tuple[str, ...]]:
    """Groups and what they consume."""
    return {**GROUPS, **{spec.name: spec.consumes for spec in agents}}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a send: first offset and the one behind the last, or why it failed."""

    first: int = -1
    end: int = -1
    error: str = ""
    fenced: bool = False


@dataclass(slots=True)
class Sending:
    """Records that land together or not at all. ``epoch`` None: unfenced; ``claim`` counts claims, fenced or not."""

    records: Sequence[tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]]
    done: Callable[[Outcome], None]
    epoch: int | None = None
    claim: int = 0


@dataclass(slots=True, eq=False)
class Link:
    """Sends of one producer to one partition, in order; ``landed`` holds outcomes the producer has not taken yet.

    ``is_broken``: one was lost, and the producer numbers its batches: the broker takes none behind it.
    """

    owner: Any
    place: Place
    waiting: deque[Sending] = field(default_factory=deque)
    landed: deque[tuple[Sending, Outcome]] = field(default_factory=deque)
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that was appended in this step, and the claim it was written under (0 = none)."""

    record: LogRecord
    claim: int


class SimCodec(Codec):
    """The real codec; what was decoded once is remembered, records being immutable."""

    def __init__(self) -> None:
        super().__init__(SchemaIds.local())
        self._known: dict[tuple[str, bytes], Any] = {}

    def decode(self, topic_short: str, value: bytes | None) -> Any:
        found = self._known.get((topic_short, value or b""))
        if found is None:
            found = self._known[topic_short, value or b""] = super().decode(topic_short, value)
        return found


class World:
    """One run. ``rng`` is the only source of chance, ``now_us`` the only clock, ``current`` the process that runs."""

    def __init__(self, seed: int, profile: Profile | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.profile = profile or Profile.drawn(self.rng)
        self.now_us = START_US
        self.step = 0
        self.current: Any = None
        self.log = MemoryLog()
        self.agents = agents_of(self.profile.control)
        topics = self.topics = topics_of(self.agents)
        for topic, partitions in topics.items():
            self.log.create(topic, partitions)
        self.starts: dict[Place, int] = {}
        self.groups = {
            name: Group(name, tuple((topic, p) for topic in consumed for p in range(topics[topic])))
            for name, consumed in groups_of(self.agents).items()
        }
        self.codec = SimCodec()
        self.links: list[Link] = []
        self.claims: dict[Place, int] = {}
        self.appended: list[Appended] = []
        self.commits: list[tuple[str, Place, int]] = []
        self.looked_up: list[tuple[Any, Any]] = []
        self.compared: list[Any] = []
        self.ignored: set[tuple[str, int]] = set()
        self.waiters: dict[Place, dict[asyncio.Future[None], None]] = {}
        self.redis_away = False
        self.redis: dict[Any, tuple[Any, float]] = {}
        self.blobs: dict[str, bytes] = {}
        self.failures: dict[float, int] = {}
        self.lines: list[str] = []
        self.counts: dict[str, int] = {}
        self._digest = hashlib.sha256()
        self._number = 0

    def elapsed_s(self) -> float:
        """Seconds since the start, which no clock's error touches."""
        return (self.now_us - START_US) / 1e6

    def tell(self, line: str) -> None:
        """Add a line to the story and to the digest of the run."""
        line = f"{self.step} +{self.now_us - START_US} us: {line}"
        self.lines.append(line)
        self._digest.update(line.encode())

    def count(self, what: str, number: int = 1) -> None:
        """Count an event of the run, to show afterwards what it covered."""
        self.counts[what] = self.counts.get(what, 0) + number

    @property
    def digest(self) -> str:
        """SHA-256 of every line so far; equal for equal seeds."""
        return self._digest.hexdigest()

    def number(self) -> int:
        """The next of a row of numbers; names members and requests."""
        self._number += 1
        return self._number

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (), *, epoch: int | None = None, claim: int = 0,
    ) -> int:  # fmt: skip
        """Append at once; who waits for data hears of it. Raises FencedError."""
        offset = self.log.append(topic, partition, key, value, tuple(headers), self.now_us, epoch=epoch)
        record = LogRecord(topic, partition, offset, key, value, tuple(headers), self.now_us)
        self.appended.append(Appended(record, claim))
        for waiter in self.waiters.get((topic, partition), ()):
            if not waiter.done():
                waiter.set_result(None)
        return offset

    def readable(self, topic: str, value: bytes | None) -> Any:
        """The record, or None when it cannot be read."""
        try:
            return self.codec.decode(topic, value)
        except PoisonRecordError:
            return None

    def claim(self, topic: str, partition: int, *, fence: bool = True) -> tuple[int | None, int]:
        """Take a partition over: epoch (None without a fence) and the number of the claim."""
        place = (topic, partition)
        self.claims[place] = self.claims.get(place, 0) + 1
        return (self.log.claim(topic, partition) if fence else None), self.claims[place]

    def commit(self, group: Group, member: str, generation: int, place: Place, offset: int) -> bool:
        """Note a committed offset; False when the coordinator refuses it."""
        accepted = group.commit(member, generation, place, offset)
        if accepted:
            self.commits.append((group.name, place, offset))
        self.tell(f"{member} commits {place[0]}-{place[1]}@{offset}{'' if accepted else ', refused'}")
        return accepted

    def start(self, place: Place) -> int:
        """First offset that retention has left."""
        return self.starts.get(place, 0)

    def end(self, place: Place) -> int:
        """The next offset of a partition."""
        return self.log.end_offset(*place)

    def send(self, owner: Any, place: Place, sending: Sending) -> None:
        """Hand a send to the owner's link."""
        for link in self.links:
            if link.owner is owner and link.place == place:
                link.waiting.append(sending)
                return
        self.links.append(Link(owner, place, deque([sending])))

    def deliver(self, link: Link) -> Outcome:
        """The oldest send of a link reaches the broker, which takes or refuses it."""
        sending = link.waiting.popleft()
        if link.is_broken:
            self._answer(link, sending, Outcome(error="out of order"))
            return Outcome(error="out of order")
        topic, partition = link.place
        offsets = []
        try:
            for key, value, headers in sending.records:
                offsets.append(
                    self.append(topic, partition, key, value, headers, epoch=sending.epoch, claim=sending.claim)
                )
        except FencedError:
            self.count("refused writes")
            outcome = Outcome(error="fenced", fenced=True)
        else:
            outcome = Outcome(offsets[0], offsets[-1] + 1)
        self._answer(link, sending, outcome)
        return outcome

    def lose(self, link: Link, *, lands: bool, alone: bool = False) -> None:
        """The oldest send of a link fails for its producer; did it not land, those behind it do not, unless ``alone``.

        An idempotent producer keeps its order, so what follows a lost batch is lost; a plain one goes on.
        """
        if lands:
            outcome = self.deliver(link)
            if link.landed and not outcome.error:
                sending, _ = link.landed.pop()
                link.landed.append((sending, Outcome(error="unknown")))
            return
        link.is_broken = getattr(link.owner, "numbers_batches", False)
        while link.waiting:
            self._answer(link, link.waiting.popleft(), Outcome(error="unknown"))
            if alone:
                return

    def _answer(self, link: Link, sending: Sending, outcome: Outcome) -> None:
        if link.owner.alive:
            link.landed.append((sending, outcome))
        elif not link.waiting:
            self.links.remove(link)

    def orphan(self, owner: Any) -> None:
        """The owner is gone: its links keep what is under way, nobody takes the outcomes."""
        gone = [link for link in self.links if link.owner is owner or link.owner.process is owner]
        for link in gone:
            link.landed.clear()
        self.links = [link for link in self.links if link.waiting or link not in gone]

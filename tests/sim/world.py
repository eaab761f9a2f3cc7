"""What all simulated processes share: log, clock, chance, links to the broker, groups, and the story so far.

A send is under way on a link (one per producer, topic and partition) until a step delivers it, in order; its outcome
then waits on the link until its producer takes it. A link outlives its producer: what a killed process had under way
lands later or never.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streams.codec import Codec, SchemaIds
from streams.errors import FencedError
from streams.memory_log import LogRecord, MemoryLog
from tests.sim.group import Group, Place

TOPIC_ID: Final = bytes(range(16))
START_US: Final = 1_700_000_000_000_000
FOREVER_US: Final = 100_000_000_000
REQUEST_PARTITIONS: Final = 2
LANES: Final = 2
STORY_LENGTH: Final = 30

TOPICS: Final = {
    "inference.requests": REQUEST_PARTITIONS,
    "inference.admitted": REQUEST_PARTITIONS,
    "inference.routed": LANES,
    "inference.executed": REQUEST_PARTITIONS,
    "inference.results": REQUEST_PARTITIONS,
    "inference.ledger-checkpoints": REQUEST_PARTITIONS,
    "control.plans": 1,
    "control.context": 1,
    "control.alerts": 1,
    "control.journal": 2,
    "memory.commands": 1,
    "memory.events": 1,
    "memory.state": 1,
}
GROUPS: Final = {
    "edge": ("inference.requests",),
    "router": ("inference.admitted",),
    "executor": ("inference.routed",),
    "validator": ("inference.executed",),
    "orchestrator": ("memory.commands", "control.plans", "control.alerts"),
    "planner": ("control.context",),
}


@dataclass(frozen=True, slots=True)
class Bugs:
    """Bugs that can be planted. ``commit_past``: the role that commits past in-flight records.

    ``no_fence``: take-overs shut nobody out; ``route_before_plan``: the Router guesses where memory has no plan.
    ``give_up_us`` is no bug but the reaper's patience; impatient, it must answer what a bug has lost.
    """

    commit_past: str = ""
    no_fence: bool = False
    route_before_plan: bool = False
    give_up_us: int = FOREVER_US


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
    """Sends of one producer to one partition, in order; ``landed`` holds outcomes the producer has not taken yet."""

    owner: Any
    place: Place
    waiting: deque[Sending] = field(default_factory=deque)
    landed: deque[tuple[Sending, Outcome]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that was appended in this step, and the claim it was written under (0 = none)."""

    record: LogRecord
    claim: int


class Wire:
    """The real codec; what was decoded once is remembered, records being immutable."""

    def __init__(self) -> None:
        self.codec = Codec(SchemaIds.local())
        self._known: dict[tuple[str, bytes], Any] = {}

    def encode(self, topic: str, record: Any) -> bytes:
        return self.codec.encode(topic, record)

    def decode(self, topic: str, value: bytes | None) -> Any:
        found = self._known.get((topic, value or b""))
        if found is None:
            found = self.codec.decode(topic, value)
            self._known[topic, value or b""] = found
        return found


class World:
    """One run. ``rng`` is the only source of chance, ``now_us`` the only clock."""

    def __init__(self, seed: int, bugs: Bugs | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.bugs = bugs or Bugs()
        self.now_us = START_US
        self.step = 0
        self.log = MemoryLog()
        for topic, partitions in TOPICS.items():
            self.log.create(topic, partitions)
        self.groups = {
            name: Group(name, tuple((topic, p) for topic in topics for p in range(TOPICS[topic])))
            for name, topics in GROUPS.items()
        }
        self.wire = Wire()
        self.links: list[Link] = []
        self.claims: dict[Place, int] = {}
        self.appended: list[Appended] = []
        self.story: deque[str] = deque(maxlen=STORY_LENGTH)
        self.hold_us = self.rng.choice((2_000_000, FOREVER_US))
        self.give_up_us = self.bugs.give_up_us
        self.counts: dict[str, int] = {}
        self._digest = hashlib.sha256()
        self._number = 0

    def tell(self, line: str) -> None:
        """Add a line to the story and to the digest of the run."""
        line = f"{self.step} +{self.now_us - START_US} us: {line}"
        self.story.append(line)
        self._digest.update(line.encode())

    def count(self, what: str) -> None:
        """Count an event of the run, to show afterwards what it covered."""
        self.counts[what] = self.counts.get(what, 0) + 1

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
        """Append at once. Raises FencedError."""
        offset = self.log.append(topic, partition, key, value, tuple(headers), self.now_us, epoch=epoch)
        record = LogRecord(topic, partition, offset, key, value, tuple(headers), self.now_us)
        self.appended.append(Appended(record, claim))
        return offset

    def claim(self, topic: str, partition: int, *, fence: bool = True) -> tuple[int | None, int]:
        """Take a partition over: epoch (None without a fence) and the number of the claim."""
        place = (topic, partition)
        self.claims[place] = self.claims.get(place, 0) + 1
        return (self.log.claim(topic, partition) if fence else None), self.claims[place]

    def send(self, owner: Any, topic: str, partition: int, sending: Sending) -> None:
        """Hand a send to the owner's link."""
        place = (topic, partition)
        for link in self.links:
            if link.owner is owner and link.place == place:
                link.waiting.append(sending)
                return
        self.links.append(Link(owner, place, deque([sending])))

    def deliver(self, link: Link) -> Outcome:
        """The oldest send of a link reaches the broker, which takes or refuses it."""
        sending = link.waiting.popleft()
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

    def lose(self, link: Link, *, lands: bool) -> None:
        """The oldest send of a link fails for its producer. Did it not land, nor do those behind it: order is kept."""
        if lands:
            outcome = self.deliver(link)
            if link.landed and not outcome.error:
                sending, _ = link.landed.pop()
                link.landed.append((sending, Outcome(error="unknown")))
            return
        while link.waiting:
            self._answer(link, link.waiting.popleft(), Outcome(error="unknown"))

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

    def end(self, place: Place) -> int:
        """The next offset of a partition."""
        return self.log.end_offset(*place)

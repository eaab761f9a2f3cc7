"""Orchestrator and Planner as simulated: journal first, on the real journal, event store and decisions.

An office is a coroutine: it stands still wherever the real one waits for the broker, and goes on when the scheduler
picks it. What it waits for are outcomes of sends, which land, fail or are refused in other steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Sequence
from functools import partial

from agents.orchestrator import ORCHESTRATOR
from agents.planner import PLANNER
from schemas.journal import JournalEntry
from streams.agent import AgentSpec
from streams.errors import RetriableError
from streams.event_store import EventStore, MemoryPlace
from streams.journal import EFFECT_HEADER, TICK_INPUT, Input, JournaledAgent, effect_id, restore
from streams.memory_log import LogRecord
from streams.tenure import MAX_ROUND
from streams.topics import JOURNALED_AGENTS
from tests.sim.group import Place
from tests.sim.partitions import SimPartitions, SimWriter, Submission, Until
from tests.sim.processes import Process, Step
from tests.sim.violation import Violation
from tests.sim.world import World

JOURNAL = "control.journal"
MEMORY = "memory.events"


class ControlProcess(Process):
    """Mirrors ``streams.control_loop.ControlLoop``."""

    spec: AgentSpec

    def __init__(self, world: World, name: str) -> None:
        self.partitions = SimPartitions(self)
        self.senders: dict[str, SimWriter] = {}
        self.store: EventStore | None = None
        self.agent: JournaledAgent | None = None
        self.office: Coroutine[Until, None, None] | None = None
        self.waits: Until | None = None
        self.working = False
        self.inbox: deque[LogRecord] = deque()
        self.positions: dict[Place, int] = {}
        self.acked: dict[Place, int] = {}
        self.next_tick_us = 0
        self.seen = 0
        super().__init__(world, name)

    def own_steps(self) -> list[Step]:
        found: list[Step] = []
        if any(position < self.world.end(place) for place, position in self.positions.items()):
            found.append(("receive", self.receive))
        if self.office is not None and (self.waits is None or self.waits.met()):
            found += [("go on", self.go_on)] * 3
        return found

    def committable(self) -> dict[Place, int]:
        return {place: offset for place, offset in self.acked.items() if offset > self.committed.get(place, -1)}

    @property
    def idle(self) -> bool:
        if not super().idle:
            return False
        if self.office is None:
            return True
        at_end = all(position >= self.world.end(place) for place, position in self.positions.items())
        return at_end and not self.inbox and not self.working and not self.unread()

    def assigned(self, places: tuple[Place, ...]) -> None:
        self.close_office()
        self.positions = {place: self.start_of(place) for place in places}
        self.acked = {}
        self.inbox = deque()
        if any(place[0] == self.spec.consumes[0] for place in places):
            self.office = self.hold_office()

    def die(self) -> None:
        self.close_office()
        super().die()

    def close_office(self) -> None:
        """End the tenure; its writers close."""
        if self.office is not None:
            self.office.close()
        self.office, self.waits, self.working = None, None, False
        self.release()

    def release(self) -> None:
        self.partitions.close()
        for sender in self.senders.values():
            sender.close()
        self.senders = {}

    def receive(self) -> str:
        """Take some consumed records into the inbox."""
        place = next(place for place, position in self.positions.items() if position < self.world.end(place))
        records = self.world.log.read(*place, self.positions[place], self.world.rng.randint(1, 4))
        self.inbox.extend(records)
        self.positions[place] = records[-1].offset + 1 if records else self.world.end(place)
        return f"{len(records)} of {place[0]}"

    def go_on(self) -> str:
        """Run the office to its next wait."""
        assert self.office is not None
        self.waits = self.office.send(None)
        return f"at sequence {self.agent.sequence if self.agent else 0}"

    async def hold_office(self) -> None:
        while True:
            try:
                await self.serve()
            except RetriableError as error:
                self.world.count(f"{self.role} gave up")
                self.world.tell(f"{self.name} gives up its claim: {type(error).__name__}")
                self.agent = None
                self.release()
                resume_us = self.world.now_us + 200_000
                await Until(partial(self.is_past, resume_us))

    def is_past(self, time_us: int) -> bool:
        return self.world.now_us >= time_us

    async def serve(self) -> None:
        """Claim, open memory, fold the journal, send the last effects once more, then rounds."""
        self.working = True
        writer = await self.partitions.claim(JOURNAL, JOURNALED_AGENTS.index(self.spec.name))
        if MEMORY in self.spec.emits:
            self.store = EventStore(self.partitions, self.world.wire, MemoryPlace(MEMORY, "memory.state"))
            await self.store.open()
        records = await self.partitions.read(*writer.place)
        entries = [self.world.wire.decode(JOURNAL, record.value) for record in records]
        self.agent, divergences = restore(self.spec, self.world.wire, entries)
        if divergences:
            raise Violation("state is the fold of its journal", f"{self.name}: {divergences[0]}")
        self.world.count(f"{self.role} took over")
        await self.send_effects(entries[-(MAX_ROUND + 1) :])
        self.seen = self.agent.cursors.get(f"{MEMORY}/0", -1) + 1
        while True:
            await self.round(writer)

    async def round(self, writer: SimWriter) -> None:
        """Inputs, entries, effects, acknowledgements."""
        self.working = False
        await Until(self.has_work)
        self.working = True
        agent, rng = self.agent, self.world.rng
        assert agent is not None
        inputs: list[Input] = []
        if MEMORY in self.spec.watches:
            inputs += self.watched_inputs(rng.randint(1, 4))
        consumed = [self.inbox[at] for at in range(min(rng.randint(1, 4), len(self.inbox)))]
        inputs += [_input(record) for record in consumed]
        if self.spec.tick_ms and self.world.now_us >= self.next_tick_us:
            inputs.append(TICK_INPUT)
            self.next_tick_us = self.world.now_us + self.spec.tick_ms * 1000
        entries = [entry for given in inputs if (entry := agent.step(given, self.world.now_us)) is not None]
        if entries:
            if agent.snapshot_due():
                entries.append(agent.snapshot())
            key = self.spec.name.encode()
            values = [(key, self.world.wire.encode(JOURNAL, entry), ()) for entry in entries]
            await writer.confirm(await writer.submit(values))
            await self.send_effects(entries)
        for record in consumed:
            self.inbox.popleft()
            self.acked[record.topic, record.partition] = record.offset + 1

    def has_work(self) -> bool:
        due = self.spec.tick_ms and self.world.now_us >= self.next_tick_us
        return bool(self.inbox or due or self.unread())

    def unread(self) -> bool:
        return MEMORY in self.spec.watches and self.seen < self.world.end((MEMORY, 0))

    def watched_inputs(self, most: int) -> list[Input]:
        records = self.world.log.read(MEMORY, 0, self.seen, most)
        self.seen = records[-1].offset + 1 if records else self.world.end((MEMORY, 0))
        return [_input(record) for record in records]

    async def send_effects(self, entries: Sequence[JournalEntry]) -> None:
        """Send in order and wait until all stand."""
        waiting: list[tuple[SimWriter, Submission]] = []
        for entry in entries:
            for index, effect in enumerate(entry.effects):
                if effect.topic == MEMORY:
                    assert self.store is not None
                    await self.store.append(self.world.wire.decode(MEMORY, effect.value))
                    continue
                sender = self.senders.get(effect.topic)
                if sender is None:
                    sender = self.senders[effect.topic] = SimWriter(self, (effect.topic, 0), None, 0)
                headers = [(EFFECT_HEADER, effect_id(entry, index).encode())]
                waiting.append((sender, await sender.submit([(effect.key, effect.value, headers)])))
        for sender, submission in waiting:
            await sender.confirm(submission)


def _input(record: LogRecord) -> Input:
    source = next((value.decode() for name, value in record.headers if name == EFFECT_HEADER), "")
    return Input(record.topic, record.partition, record.offset, record.key or b"", record.value, source)


class OrchestratorProcess(ControlProcess):
    """The Orchestrator, the only writer of memory."""

    role = "orchestrator"
    spec = ORCHESTRATOR


class PlannerProcess(ControlProcess):
    """The Planner."""

    role = "planner"
    spec = PLANNER

"""Router and Validator as simulated: the data-plane interpreter and its take-overs, a run per partition and attempt."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from agents.router import ROUTER, RouterParams
from agents.validator import VALIDATOR, ValidatorParams
from schemas.coordinate import RecordCoordinate
from streams.agent import TICK, AgentSpec, Event, Tick
from streams.frame_effects import Answer, Confirmed, Defer, ScanRequests, SendFrame, WriteCheckpoint
from streams.memory_log import LogRecord
from streams.ordering import Entry, InOrder
from streams.results import offsets_of
from tests.sim.group import Place
from tests.sim.ledger_shell import LedgerShell
from tests.sim.planted import guessing_view
from tests.sim.processes import Process, Step
from tests.sim.world import LANES, Outcome, World

WINDOW = 12


@dataclass(slots=True)
class Held:
    """A partition in one generation: what was delivered, and which of it is acknowledged."""

    place: Place
    generation: int
    position: int
    delivered: deque[int] = field(default_factory=deque)
    acked: set[int] = field(default_factory=set)
    committable: int = -1

    def ack(self, offset: int) -> None:
        """Acknowledge a record; what may be committed ends before the first that is not acknowledged, as in Faust."""
        self.acked.add(offset)
        while self.delivered and self.delivered[0] in self.acked:
            first = self.delivered.popleft()
            self.acked.discard(first)
            self.committable = first + 1


@dataclass(slots=True)
class Answered:
    """Results under way: ``left`` chunks are not confirmed, ``end`` is the offset behind the last one."""

    effect: Answer
    entry: Entry[LogRecord] | None
    left: int
    end: int = -1


class Run:
    """One attempt at one partition: the owner of ``state``. ``ledger`` is None for the Router."""

    def __init__(self, process: FrameProcess, held: Held, backlog: deque[LogRecord]) -> None:
        self.process = process
        self.world = process.world
        self.held = held
        self.backlog = backlog
        self.ledger = LedgerShell(process, held.place[1]) if process.writes_results else None
        self.ready = self.ledger is None
        self.state: Any = None if self.ledger else process.spec.initial(process.spec.params)
        self.window: InOrder[LogRecord] = InOrder()
        self.deferred: deque[tuple[Defer, int, Entry[LogRecord]]] = deque()
        self.answers: deque[Answered] = deque()
        self.scan: ScanRequests | None = None
        self.failure = ""
        self.next_tick_us = 0
        self.checked: Any = None

    def steps(self) -> list[Step]:
        """What this partition can do now."""
        if self.failure:
            return [("give up", self.give_up)]
        if self.ledger is not None and not self.ready:
            return [("take over", self.take_over)]
        found: list[Step] = []
        if len(self.window) < WINDOW and (self.backlog or self.held.position < self.world.end(self.held.place)):
            found.append(("take", self.take))
        now, sequence = self.world.now_us, self.process.view.sequence
        if self.process.spec.tick_ms and now >= self.next_tick_us:
            found.append(("tick", self.tick))
        if any(defer.until_us <= now or seen != sequence for defer, seen, _ in self.deferred):
            found.append(("wake deferred", self.wake))
        if self.scan is not None:
            found.append(("scan", self.scan_requests))
        return found

    def take_over(self) -> str:
        """One part of the take-over: claim, claim, read the checkpoint, fold."""
        assert self.ledger is not None
        said = self.ledger.advance()
        if self.ledger.rebuilt is not None:
            self.state, self.ready = self.ledger.rebuilt, True
        return f"{self.held.place[1]}: {said}"

    def give_up(self) -> str:
        """Begin again with what is unfinished in front, as the runner does after a RetriableError."""
        backlog = deque([*self.window.unfinished(), *self.backlog])
        if self.ledger is not None:
            self.ledger.close()
        self.process.runs[self.held.place] = Run(self.process, self.held, backlog)
        return f"{self.held.place[1]}: {self.failure}, {len(backlog)} records again"

    def take(self) -> str:
        """Decide on the next frame."""
        if self.backlog:
            record = self.backlog.popleft()
        else:
            records = self.world.log.read(*self.held.place, self.held.position, 1)
            if not records:
                self.held.position = self.world.end(self.held.place)
                return f"{self.held.place[1]}: only markers"
            record = records[0]
            self.held.position = record.offset + 1
            self.held.delivered.append(record.offset)
        entry = self.window.start(record)
        frame = self.world.wire.decode(record.topic, record.value)
        self.step(frame, RecordCoordinate(record.topic, record.partition, record.offset), entry)
        self.finish(entry)
        if self.world.bugs.commit_past == self.process.role:
            self.held.committable = record.offset + 1
        return f"{record.partition}@{record.offset}, {len(frame.statuses)} rows"

    def step(self, record: Any, coordinate: RecordCoordinate, entry: Entry[LogRecord] | None) -> None:
        """Decide and perform."""
        event = Event(record, coordinate, self.world.now_us, answers=self.process.answers())
        self.state, effects = self.process.spec.decide(self.state, event, self.process.spec.params)
        for effect in effects:
            self.perform(effect, entry)

    def perform(self, effect: Any, entry: Entry[LogRecord] | None) -> None:
        match effect:
            case SendFrame():
                self.hold(entry)
                value = self.world.wire.encode(effect.topic, effect.frame)
                self.process.send(effect.topic, effect.partition, value, lambda outcome: self.sent(outcome, entry))
            case Answer():
                self.answer(effect, entry)
            case Defer():
                assert entry is not None
                self.hold(entry)
                self.deferred.append((effect, self.process.view.sequence, entry))
                self.world.count("deferred")
            case WriteCheckpoint():
                assert self.ledger is not None
                self.ledger.write_checkpoint(effect.checkpoint, self.checkpointed)
            case ScanRequests():
                self.scan = effect
            case _:
                raise AssertionError(effect)

    def sent(self, outcome: Outcome, entry: Entry[LogRecord] | None) -> None:
        """A frame stands, or its fate is unknown."""
        if outcome.error:
            self.failure = self.failure or f"a send is {outcome.error}"
        else:
            self.finish(entry)

    def answer(self, effect: Answer, entry: Entry[LogRecord] | None) -> None:
        """Hand results to the fenced writer in chunks, which land one by one."""
        assert self.ledger is not None
        self.hold(entry)
        answered = Answered(effect, entry, 0)
        answered.left = self.ledger.write_results(effect, lambda outcome: self.written(outcome, answered))
        self.answers.append(answered)

    def written(self, outcome: Outcome, answered: Answered) -> None:
        """A chunk of results stands, or not; confirmations are taken in the order of the log."""
        if outcome.error:
            self.failure = self.failure or f"a write of results is {outcome.error}"
            return
        answered.left -= 1
        answered.end = outcome.end
        while self.answers and self.answers[0].left == 0 and not self.failure:
            first = self.answers.popleft()
            offsets = offsets_of(first.effect.frame)
            confirmed = Confirmed(offsets, first.end, len(offsets) if first.effect.reaped else 0)
            self.step(confirmed, TICK, None)
            self.finish(first.entry)

    def checkpointed(self, outcome: Outcome) -> None:
        """A checkpoint stands, or not."""
        if outcome.error:
            self.failure = self.failure or f"a checkpoint is {outcome.error}"

    def tick(self) -> str:
        """The clock as an event."""
        self.next_tick_us = self.world.now_us + self.process.spec.tick_ms * 1000
        self.step(Tick(), TICK, None)
        return f"{self.held.place[1]}"

    def wake(self) -> str:
        """Give frames back whose time or memory has come."""
        woken = 0
        for _ in range(len(self.deferred)):
            defer, seen, entry = self.deferred.popleft()
            if defer.until_us <= self.world.now_us or seen != self.process.view.sequence:
                woken += 1
                self.step(defer.frame, TICK, entry)
                self.finish(entry)
            else:
                self.deferred.append((defer, seen, entry))
        return f"{self.held.place[1]}: {woken} frames"

    def scan_requests(self) -> str:
        """The reaper's reading."""
        assert self.ledger is not None
        assert self.scan is not None
        request, self.scan = self.scan, None
        scanned = self.ledger.scan(request)
        self.world.count("scans")
        self.step(scanned, TICK, None)
        return f"{self.held.place[1]}: {scanned.first}..{scanned.end}, {len(scanned.offsets)} requests"

    def hold(self, entry: Entry[LogRecord] | None) -> None:
        if entry is not None:
            self.window.add(entry)

    def finish(self, entry: Entry[LogRecord] | None) -> None:
        if entry is None:
            return
        for record in self.window.finish(entry):
            if self.held.generation == self.process.generation:
                self.held.ack(record.offset)

    @property
    def idle(self) -> bool:
        """Whether nothing is unfinished."""
        return self.ready and not (self.failure or self.window or self.backlog or self.answers or self.scan)


class FrameProcess(Process):
    """Mirrors ``streams.interpreter.FrameInterpreter`` under ``streams.takeover.Takeover``."""

    spec: AgentSpec
    writes_results = False

    def __init__(self, world: World, name: str) -> None:
        self.runs: dict[Place, Run] = {}
        super().__init__(world, name)

    def answers(self) -> Any:
        """What the shell looks up for ``decide``."""
        return self.view

    def assigned(self, places: tuple[Place, ...]) -> None:
        for run in self.runs.values():
            if run.ledger is not None:
                run.ledger.close()
        self.runs = {place: Run(self, Held(place, self.generation, self.start_of(place)), deque()) for place in places}

    def own_steps(self) -> list[Step]:
        return [step for run in self.runs.values() for step in run.steps()]

    def committable(self) -> dict[Place, int]:
        return {
            place: run.held.committable
            for place, run in self.runs.items()
            if run.held.committable > self.committed.get(place, -1)
        }

    @property
    def idle(self) -> bool:
        return super().idle and all(run.idle for run in self.runs.values())


class RouterProcess(FrameProcess):
    """The Router; the planted bug guesses a plan where memory has none."""

    role = "router"

    def __init__(self, world: World, name: str) -> None:
        params = RouterParams(num_lanes=LANES, hold_us=world.hold_us)
        self.spec = replace(ROUTER, params=params)
        super().__init__(world, name)

    def answers(self) -> Any:
        return guessing_view(self.view) if self.world.bugs.route_before_plan else self.view


class ValidatorProcess(FrameProcess):
    """The Validator, only writer of results."""

    role = "validator"
    writes_results = True

    def __init__(self, world: World, name: str) -> None:
        self.spec = replace(VALIDATOR, params=ValidatorParams(give_up_us=world.give_up_us))
        super().__init__(world, name)

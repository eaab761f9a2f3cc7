"""State machines: terminals against a dict, memory against a list, a partition's run against the log of its results."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import streams.partition_run
from agents.validator import VALIDATOR, ValidatorState
from schemas.ledger import LedgerCheckpoint
from streams.codec import Codec, SchemaIds
from streams.errors import FencedError, RetriableError
from streams.event_store import EventStore
from streams.fenced import WriteFailedError
from streams.interpreter import FrameCounts
from streams.ledger import source_of
from streams.memory_view import MemoryView, StoredEvent, extend
from streams.partition_run import PartitionRun
from streams.takeover import HeldPartition
from streams.terminals import OPEN, PENDING, SET, Terminals
from tests.sim.loop import SimLoop
from tests.support.event_store_contract import CODEC as MEMORY_CODEC
from tests.support.event_store_contract import event as memory_event
from tests.support.fake_kafka import FakeEvent
from tests.support.frames import MODEL, TOPIC_ID, executed, memory
from tests.support.partitions import MemoryPartitions

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

FIRST = 100
CODEC = Codec(SchemaIds.local())
EVENTS = "isos.memory.events.v1"


class TerminalsMachine(RuleBasedStateMachine):
    """The model holds the state of every offset by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.terminals = Terminals.starting_at(FIRST)
        self.model: dict[int, int] = {}

    def those(self, state: int, wanted: set[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        chosen = [FIRST + at for at in sorted(wanted) if self.model.get(FIRST + at, OPEN) == state]
        return np.array(chosen, np.int64)

    @rule(wanted=st.sets(st.integers(0, 200), max_size=20))
    def send(self, wanted: set[int]) -> None:
        offsets = self.those(OPEN, wanted)
        self.terminals = self.terminals.mark_pending(offsets)
        self.model.update(dict.fromkeys(offsets.tolist(), PENDING))

    @rule(wanted=st.sets(st.integers(0, 200), max_size=20))
    def confirm(self, wanted: set[int]) -> None:
        offsets = self.those(PENDING, wanted)
        self.terminals = self.terminals.mark_set(offsets)
        self.model.update(dict.fromkeys(offsets.tolist(), SET))

    @rule(at=st.integers(1, 200), gap=st.integers(0, 9))
    def skip(self, at: int, gap: int) -> None:
        gap = min(gap, at)
        self.terminals = self.terminals.mark_gaps(np.array([FIRST + at]), np.array([gap]))
        self.model.update(dict.fromkeys(range(FIRST + at - gap, FIRST + at), SET))

    @rule()
    def restart(self) -> None:
        """What was under way is open again after a checkpoint was read."""
        self.terminals = Terminals.from_bits(*self.terminals.to_bits())
        self.model = {offset: state for offset, state in self.model.items() if state == SET}

    @invariant()
    def agrees(self) -> None:
        offsets = np.arange(FIRST, FIRST + 250, dtype=np.int64)
        expected = [self.model.get(offset, OPEN) for offset in offsets.tolist()]
        low = next(offset for offset, state in zip(offsets.tolist(), expected, strict=True) if state != SET)
        assert self.terminals.low_watermark == low
        assert self.terminals.open_mask(offsets).tolist() == [state == OPEN for state in expected]
        unset = [o for o, state in zip(offsets.tolist(), expected, strict=True) if state != SET]
        assert self.terminals.open_below(FIRST + 250).tolist() == unset
        assert self.terminals.num_pending == expected.count(PENDING)
        assert self.terminals.highest_set == max((o for o, s in self.model.items() if s == SET), default=FIRST - 1)


class MemoryMachine(RuleBasedStateMachine):
    """Event stores that come and go over one log; the model is the list of commands that were accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.partitions = MemoryPartitions()
        self.store = EventStore(self.partitions, MEMORY_CODEC)
        self.older: EventStore | None = None
        self.commands: list[str] = []
        self.num_void = 0
        logging.disable(logging.CRITICAL)

    @initialize()
    def begin(self) -> None:
        self.runner.run(self.store.open())

    @rule(key=st.sampled_from("abc"), body=st.sampled_from(("1", "2", None)))
    def append(self, key: str, body: str | None) -> None:
        self.retried(memory_event(len(self.commands) + 1, key, body))

    @rule(key=st.sampled_from("abc"), lost=st.sets(st.integers(1, 8)), unknown=st.sets(st.integers(1, 8)))
    def append_in_trouble(self, key: str, lost: set[int], unknown: set[int]) -> None:
        """Writes that fail by their number, stored or not; whoever gives up opens anew and appends again."""
        faults = self.partitions.faults
        faults.lost, faults.unknown = ({faults.count + n for n in numbers} for numbers in (lost, unknown))
        self.retried(memory_event(len(self.commands) + 1, key))

    def retried(self, event: Any) -> None:
        async def until_done() -> None:
            for _ in range(40):
                try:
                    if self.store._events is None:
                        await self.store.open()
                    await self.store.append(event)
                except RetriableError:
                    await self.store.stop()
                else:
                    return
            raise AssertionError("it never got better")

        self.runner.run(until_done())
        self.commands.append(event.command_id)
        self.partitions.faults.lost, self.partitions.faults.unknown = set(), set()

    @rule()
    def again(self) -> None:
        """What stands is not appended once more."""
        if self.commands:
            assert self.runner.run(self.store.append(memory_event(len(self.commands)))) == len(self.commands)

    @rule()
    def take_over(self) -> None:
        """A successor; the predecessor does not know yet."""
        self.older, self.store = self.store, EventStore(self.partitions, MEMORY_CODEC)
        self.runner.run(self.store.open())

    @precondition(lambda self: self.older is not None and self.older._events is not None)
    @rule()
    def a_predecessor_wakes(self) -> None:
        assert self.older is not None
        with pytest.raises(FencedError):
            self.runner.run(self.older.append(memory_event(self.older.sequence + 1)))

    @rule()
    def somebody_writes_without_a_claim(self) -> None:
        value = MEMORY_CODEC.encode("memory.events", memory_event(len(self.commands) + 1))
        self.partitions.log.append(EVENTS, 0, b"k", value if self.commands else b"rubbish")
        self.num_void += 1

    @invariant()
    def memory_is_the_fold(self) -> None:
        if self.store._events is None:
            return
        stored = []
        for record in self.partitions.log.scan(EVENTS, 0):
            if record.value != b"rubbish":
                stored.append(StoredEvent.of(MEMORY_CODEC.decode("memory.events", record.value), record.value or b""))
        view, _ = extend(MemoryView(), stored)
        assert view.sequence == len(self.commands)
        assert view == self.store.view
        standing = self.runner.run(self.states())
        assert standing == {key.encode(): entry for key, entry in view.entries.items()}

    async def states(self) -> dict[bytes | None, Any]:
        records = self.partitions.log.scan("isos.memory.state.v1", 0)
        newest = {record.key: record.value for record in records}
        return {k: MEMORY_CODEC.decode("memory.state", v) for k, v in newest.items() if v is not None}

    def teardown(self) -> None:
        self.runner.close()
        logging.disable(logging.NOTSET)


class Results:
    """A claimed writer whose writes the machine lets stand or fail, and the ledger around it."""

    age_s = 0.0

    def __init__(self, machine: RunMachine) -> None:
        self.machine = machine
        self.writes: list[tuple[list[Any], asyncio.Future[tuple[int, int]]]] = []
        self.results = self

    async def submit(self, records: list[Any]) -> asyncio.Future[tuple[int, int]]:
        future: asyncio.Future[tuple[int, int]] = self.machine.loop.create_future()
        self.writes.append((records, future))
        return future

    async def confirm(self, submission: asyncio.Future[tuple[int, int]]) -> tuple[int, int]:
        return await submission

    async def write_checkpoint(self, checkpoint: LedgerCheckpoint) -> None:
        terminals = Terminals.from_bits(checkpoint.low_watermark, checkpoint.bits)
        self.machine.covered(terminals, checkpoint.results_offset)

    async def scan(self, request: Any) -> Any:
        await asyncio.Event().wait()


class RunMachine(RuleBasedStateMachine):
    """A Validator's run: frames in, results out through a writer that may fail at any point, take-overs, crashes."""

    held: HeldPartition

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 1_700_000_000_000_000
        self.real_time = streams.partition_run.time  # type: ignore[attr-defined]
        clock: Any = SimpleNamespace(time_ns=lambda: self.now_us * 1000)
        streams.partition_run.time = clock  # type: ignore[attr-defined]
        logging.disable(logging.CRITICAL)
        self.loop = SimLoop(lambda: self.now_us / 1e6)
        self.log: list[int] = []
        self.frames: list[set[int]] = []
        self.events: list[FakeEvent] = []
        self.first = 0  # of the events that the run has been given
        self.begin(HeldPartition("t", 1, 1))

    def begin(self, held: HeldPartition) -> None:
        """Take over: fold the results, then serve."""
        terminals = Terminals.starting_at(FIRST).mark_set(np.array(self.log, np.int64))
        shell = SimpleNamespace(
            spec=VALIDATOR, codec=CODEC, memory=SimpleNamespace(view=memory(MODEL)), counts=FrameCounts(), check=None,
            takeover=SimpleNamespace(is_current=lambda which: which is self.held), decode=self.decode,
        )  # fmt: skip
        self.held, self.writer = held, Results(self)
        state = ValidatorState(TOPIC_ID, 1, terminals, len(self.log))
        self.run = PartitionRun(shell, held, self.writer, state)  # type: ignore[arg-type]
        self.task = self.loop.create_task(self.run.run())

    async def decode(self, value: bytes | None) -> Any:
        return CODEC.decode("inference.executed", value)

    @rule(first=st.integers(0, 30), rows=st.integers(1, 4))
    def deliver(self, first: int, rows: int) -> None:
        value = CODEC.encode("inference.executed", executed(rows, first=FIRST + first))
        self.frames.append(set(range(FIRST + first, FIRST + first + rows)))
        self.events.append(FakeEvent(value, len(self.events)))
        self.held.events.put_nowait(self.events[-1])

    @rule(callbacks=st.integers(1, 30), passed_ms=st.integers(0, 1_500))
    def go_on(self, callbacks: int, passed_ms: int) -> None:
        self.now_us += passed_ms * 1000
        self.loop.run_some(callbacks)

    @precondition(lambda self: self.writer.writes)
    @rule()
    def stands(self) -> None:
        records, future = self.writer.writes.pop(0)
        first = len(self.log)
        self.land(records)
        if not future.done():
            future.set_result((first, len(self.log)))

    @precondition(lambda self: self.writer.writes)
    @rule(stored=st.booleans())
    def fails(self, stored: bool) -> None:
        records, future = self.writer.writes.pop(0)
        if stored:
            self.land(records)
        if not future.done():
            future.set_exception(WriteFailedError("results", 1, "unknown"))

    def land(self, records: list[Any]) -> None:
        for _, _, headers in records:
            source = source_of(headers)
            assert source is not None
            self.log.append(source[2])

    @precondition(lambda self: self.task.done())
    @rule()
    def take_over(self) -> None:
        assert isinstance(self.task.exception(), RetriableError)
        self.begin(self.held)

    @rule()
    def crash(self) -> None:
        """A successor gets everything from the first event that is not acknowledged."""
        self.loop.destroy()
        self.loop = SimLoop(lambda: self.now_us / 1e6)
        self.first = next((at for at, event in enumerate(self.events) if not event.acks), len(self.events))
        self.begin(HeldPartition("t", 1, self.held.generation + 1))
        for event in self.events[self.first :]:
            self.held.events.put_nowait(event)

    def covered(self, terminals: Terminals, results_offset: int) -> None:
        """SET are the results below the offset, and nothing else."""
        offsets = np.arange(FIRST, FIRST + 40, dtype=np.int64)
        open_ = set(terminals.open_below(FIRST + 40).tolist())
        assert {offset for offset in offsets.tolist() if offset not in open_} == set(self.log[:results_offset])

    @invariant()
    def holds(self) -> None:
        assert len(self.log) == len(set(self.log)), "a request was answered twice"
        acked = [bool(event.acks) for event in self.events]
        assert acked == sorted(acked, reverse=True), "an event was acknowledged before an earlier one"
        for event, offsets in zip(self.events, self.frames, strict=True):
            assert not event.acks or offsets <= set(self.log), "an event was acknowledged before its results stood"
        self.covered(self.run.state.terminals, self.run.state.results_offset)

    def teardown(self) -> None:
        for _ in range(400):
            self.go_on(20, 60)
            if self.writer.writes:
                self.stands()
            if self.task.done():
                self.take_over()
            if all(event.acks for event in self.events):
                break
        self.holds()
        assert all(event.acks for event in self.events), "not everything came to its end"
        assert set(self.log) == set().union(*self.frames)
        self.loop.destroy()
        streams.partition_run.time = self.real_time  # type: ignore[attr-defined]
        logging.disable(logging.NOTSET)


TestTerminals = TerminalsMachine.TestCase
TestMemory = MemoryMachine.TestCase
TestRun = RunMachine.TestCase
for case in (TestTerminals, TestMemory, TestRun):
    case.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
del case  # it would be collected a second time

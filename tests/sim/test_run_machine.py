"""State machine: a partition's run against the log of its results."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import streams.run_effects
from agents.validator import VALIDATOR, ValidatorState
from schemas.ledger import LedgerCheckpoint
from streams.codec import Codec, SchemaIds
from streams.errors import RetriableError
from streams.fenced import WriteFailedError
from streams.interpreter import FrameCounts
from streams.ledger import source_of
from streams.partition_run import PartitionRun
from streams.takeover import HeldPartition
from streams.terminals import Terminals
from tests.sim.loop import SimLoop
from tests.support.fake_kafka import FakeEvent
from tests.support.frames import MODEL, TOPIC_ID, executed, memory
from tests.support.results import records_of

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

FIRST = 100
CODEC = Codec(SchemaIds.local())


class Results:
    """A claimed writer whose writes the machine lets stand or fail, and the ledger around it."""

    age_s = 0.0

    def __init__(self, machine: RunMachine) -> None:
        self.machine = machine
        self.writes: list[tuple[list[Any], asyncio.Future[tuple[int, int]]]] = []
        self.results = self

    async def submit_batches(self, batches: list[Any]) -> asyncio.Future[tuple[int, int]]:
        future: asyncio.Future[tuple[int, int]] = self.machine.loop.create_future()
        self.writes.append((records_of(batches), future))
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
        self.real_time = streams.run_effects.time  # type: ignore[attr-defined]
        clock: Any = SimpleNamespace(time_ns=lambda: self.now_us * 1000)
        streams.run_effects.time = clock  # type: ignore[attr-defined]
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
            look_up=None, fill=None,
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
        streams.run_effects.time = self.real_time  # type: ignore[attr-defined]
        logging.disable(logging.NOTSET)


TestRun = RunMachine.TestCase
TestRun.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

"""State machines: terminals against a dict, memory against a list."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.control.event_store import EventStore
from streams.errors import FencedError, RetriableError
from streams.memory_fold import StoredEvent, extend
from streams.memory_view import MemoryView
from streams.terminals import OPEN, PENDING, SET, Terminals
from tests.support.event_store_contract import CODEC as MEMORY_CODEC
from tests.support.event_store_contract import event as memory_event
from tests.support.partitions import MemoryPartitions

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

FIRST = 100
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


TestTerminals = TerminalsMachine.TestCase
TestMemory = MemoryMachine.TestCase
for case in (TestTerminals, TestMemory):
    case.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
del case  # it would be collected a second time

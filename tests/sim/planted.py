"""Bugs to plant: each a small change of the real code that the simulation runs, and the rules that it breaks.

``plant(bug)`` changes the code for as long as its block lasts. The lost cancellation was ours
until the simulation found it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from aiokafka.errors import KafkaError

import agents.route
import streams.control.control_loop
import streams.ledger_log
from executors.outbox import Outbox
from schemas.plan import Plan, VersionWeight
from streams.columns import ERROR
from streams.committed import CommittedConsumer
from streams.control.event_store import EventStore
from streams.control.tenure import Tenure
from streams.errors import FencedError, RetriableError
from streams.ledger_log import RESULTS, LedgerLog
from streams.letters.deadletter import DeadLetters
from streams.memory_view import active_version, plan
from streams.ordering import InOrder
from streams.partition_run import PartitionRun
from streams.results import result_batches
from streams.run_effects import RunEffects
from streams.run_window import RunWindow
from streams.terminals import OPEN, SET, Terminals
from tests.sim.commit_invariants import COMMIT, DEAD_LETTER
from tests.sim.control_invariants import CHAIN, COMMITTED, FOLD, JOURNALED
from tests.sim.invariants import CHECKPOINT, DEFECT, DRAINED, ONE_RESULT, ONE_WRITER, PLANNED
from tests.sim.planted_canary import CANARIES
from tests.sim.planted_control import CONTROL
from tests.sim.planted_rows import ROWS
from tests.sim.planting import Planted as Planted
from tests.sim.planting import plant as plant

_ledger: Any = streams.ledger_log
_control: Any = streams.control.control_loop
_send = CommittedConsumer.send
_init_ledger = LedgerLog.__init__
_until_end = LedgerLog._until_end
_run = PartitionRun.run
_end = Outbox.end


def _commits_at_once(topic: str) -> Callable[..., Any]:
    async def send(self: CommittedConsumer, producer: Any, to: str, value: bytes, number: int, holders: Any) -> None:
        await _send(self, producer, to, value, number, () if topic in self.topic else holders)

    return send


def _holds_nothing(self: RunWindow, entry: Any) -> None:
    """An event is done when it is decided on, whatever was sent for it."""


def _defers_loosely(self: PartitionRun, effect: Any, entry: Any) -> None:
    loose = InOrder[Any]()
    entry = loose.start(SimpleNamespace(message=SimpleNamespace(offset=0, value=b""), ack=lambda: None))
    self.deferred.push(effect.frame, effect.until_us, entry, self._decided_at)


def _no_fence(self: LedgerLog, *given: Any, **more: Any) -> None:
    _init_ledger(self, *given, **{**more, "fence": False})


async def _reads_before_it_claims(self: LedgerLog) -> Any:
    reader = _ledger.consumer(self._connection)
    await reader.start()
    try:
        rebuilt = await self._rebuild(reader)
    except KafkaError as error:
        raise RetriableError(str(error)) from error
    writer = _ledger.FencedWriter
    self._results = await writer.claim(self._connection, RESULTS, self.partition)
    self._checkpoints = await writer.claim(self._connection, _ledger.CHECKPOINTS, self.partition)
    return rebuilt


async def _reads_no_results(self: LedgerLog, reader: Any, topic: str, first: int) -> Any:
    if topic != RESULTS:
        async for record in _until_end(self, reader, topic, first):
            yield record


def _pending_is_set(self: Terminals) -> tuple[int, bytes]:
    above = self.states[self.low_watermark - self.base :] != OPEN
    used = int(np.flatnonzero(above)[-1]) + 1 if above.any() else 0
    return self.low_watermark, np.packbits(above[:used], bitorder="little").tobytes()


def _one_gap_too_many(self: Terminals, offsets: Any, gaps: Any) -> Terminals:
    holes = np.flatnonzero(gaps)
    empty = [np.arange(offsets[i] - gaps[i] - 1, offsets[i]) for i in holes.tolist()]
    return self._with(np.concatenate(empty).astype(np.int64), SET) if empty else self


def _batches(self: RunEffects, group: Any) -> Any:
    return result_batches(self.shell.codec, [each.effect for each in group])


async def _confirms_first(self: RunEffects, results: Any) -> None:
    while self.answers:
        group, self.answers = self.answers, []
        submitted = await results.submit_batches(_batches(self, group))
        for answered in group:
            self._confirm(answered, self.source.value.results_offset)
        await results.confirm(submitted)
    self._writing = False


async def _retries_in_place(self: RunEffects, results: Any) -> None:
    while self.answers:
        group, self.answers = self.answers, []
        batches = _batches(self, group)
        try:
            _, end = await results.confirm(await results.submit_batches(batches))
        except FencedError:
            raise
        except RetriableError:
            _, end = await results.confirm(await results.submit_batches(batches))
        for answered in group:
            self._confirm(answered, end)
    self._writing = False


async def _forgets_its_backlog(self: PartitionRun) -> None:
    try:
        await _run(self)
    finally:
        self.held.backlog = []


def _finishes_in_any_order(self: InOrder[Any], entry: Any) -> list[Any]:
    entry.outstanding -= 1
    if entry.outstanding or entry not in self.entries:
        return []
    self.entries.remove(entry)
    return [entry.item]


def _ends_twice(self: Outbox, row_slice: Any, status: int, code: str, message: str, *more: Any) -> None:
    _end(self, row_slice, status, code, message, *more)
    if status == ERROR:
        _end(self, row_slice, status, code, message, *more)


def _guesses(view: Any, model: str) -> Any:
    found, version = plan(view, model), active_version(view, model)
    if found is None and version is not None:
        return Plan(model, (VersionWeight(version, 100),), 8, 30_000)
    return found


async def _drops_letters(self: DeadLetters, letters: Any) -> None:
    """Nothing is kept."""


async def _loses_cancellations(wake: asyncio.Event, until_s: float | None) -> None:
    wake.clear()
    try:
        async with asyncio.timeout(until_s and max(0.0, until_s - _control.time.monotonic())):
            await wake.wait()
    except (TimeoutError, asyncio.CancelledError):
        return


async def _sends_before_it_journals(self: Tenure, inputs: Any, now_us: int) -> None:
    entries = [entry for given in inputs if (entry := self.agent.step(given, now_us)) is not None]
    if entries:
        await self._outlet.send(entries)
        await self._journal(entries)


async def _writes_again_unread(self: EventStore, event: Any) -> int:
    for _ in range(3):
        if self._is_stored(event):
            break
        try:
            await self._write(event)
            break
        except FencedError:
            raise
        except RetriableError:
            continue
    return int(event.sequence)


PLANTED: Final[dict[str, Planted]] = {
    "the edge commits before its frames stand": Planted(
        CommittedConsumer, "send", _commits_at_once("inference.requests"), (COMMIT,)
    ),
    "the executor commits before its frames stand": Planted(
        CommittedConsumer, "send", _commits_at_once("inference.routed"), (COMMIT,)
    ),
    "Router and Validator commit before what they sent stands": Planted(RunWindow, "hold", _holds_nothing, (COMMIT,)),
    "the Router acknowledges rows that it deferred": Planted(PartitionRun, "_defer", _defers_loosely, (COMMIT,)),
    "events are acknowledged out of order": Planted(InOrder, "finish", _finishes_in_any_order, (COMMIT, COMMITTED)),
    "an edge goes on past a dead letter that was not written": Planted(
        DeadLetters, "write_many", _drops_letters, (DEAD_LETTER,)
    ),
    "the fence is dropped": Planted(LedgerLog, "__init__", _no_fence, (ONE_WRITER, ONE_RESULT)),
    "a take-over reads first and claims then": Planted(
        LedgerLog,
        "take_over",
        _reads_before_it_claims,
        (ONE_RESULT, FOLD, CHECKPOINT),
        {"weights": {"rebalance": 1.0, "freeze": 1.0}, "hear": 0.02, "fault": 0.04},
    ),
    "a take-over reads no results behind the checkpoint": Planted(
        LedgerLog, "_until_end", _reads_no_results, (ONE_RESULT, FOLD, CHECKPOINT)
    ),
    "a checkpoint counts pending results as set": Planted(Terminals, "to_bits", _pending_is_set, (CHECKPOINT,)),
    "the low watermark passes one offset more than the gap": Planted(
        Terminals, "mark_gaps", _one_gap_too_many, (FOLD, CHECKPOINT)
    ),
    "results count as confirmed when they are sent": Planted(
        RunEffects, "_write", _confirms_first, (FOLD, CHECKPOINT, COMMIT)
    ),
    "a write of unknown fate is repeated in place": Planted(
        RunEffects,
        "_write",
        _retries_in_place,
        (ONE_RESULT, FOLD),
        {"weights": {"lost send": 1.0}, "fault": 0.05, "request": 0.08, "warm_up": 1_000},
    ),
    "a run that gives up forgets its unfinished events": Planted(
        PartitionRun, "run", _forgets_its_backlog, (COMMIT, ONE_RESULT, DRAINED)
    ),
    "the executor ends a row twice": Planted(Outbox, "end", _ends_twice, (COMMIT, DRAINED, DEFECT)),
    "the Router guesses where memory has no plan": Planted(agents.route, "plan", _guesses, (PLANNED,)),
    "a control agent loses a cancellation": Planted(
        streams.control.control_loop, "_wait", _loses_cancellations, (DRAINED, COMMITTED)
    ),
    "effects are sent before they are journaled": Planted(Tenure, "round", _sends_before_it_journals, (JOURNALED,)),
    "memory is written again without reading": Planted(
        EventStore,
        "append",
        _writes_again_unread,
        (CHAIN, DEFECT),
        {"weights": {"lost send": 1.0}, "operator": 0.05, "fault": 0.04, "request": 0.01},
    ),
    **ROWS,
    **CANARIES,
    **CONTROL,
}

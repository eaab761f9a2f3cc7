"""Bugs to plant: each a small change of the real code that the simulation runs, and the rules that it breaks.

``plant(bug)`` changes the code for as long as its block lasts. The lost cancellation was ours
until the simulation found it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from aiokafka.errors import KafkaError

import agents.retry
import agents.route
import agents.router
import agents.validator
import executors.outbox
import executors.retry
import streams.cache.fill
import streams.control.control_loop
import streams.ledger_log
import streams.memory_view
from executors.lines import Lines
from executors.outbox import Outbox
from executors.retry import Retries
from schemas.frame import InferenceFrame, Segment
from schemas.model import ModelVersion
from schemas.plan import Plan, VersionWeight
from streams.cache.keys import CacheScope, scope_of
from streams.cache.values import TAG_BYTES, Seal
from streams.columns import ERROR, take
from streams.committed import CommittedConsumer
from streams.control.event_store import EventStore
from streams.control.tenure import Tenure
from streams.edge.forecast import _Executor
from streams.edge.key_lines import KeyLines
from streams.edge.request_ids import Claim, RequestIds
from streams.errors import FencedError, RetriableError
from streams.ledger_log import RESULTS, LedgerLog
from streams.letters.deadletter import DeadLetters
from streams.memory_view import MemoryView, active_version, cache_scope, plan
from streams.ordering import InOrder
from streams.partition_run import PartitionRun
from streams.results import result_batches
from streams.run_effects import RunEffects
from streams.run_window import RunWindow
from streams.terminals import OPEN, SET, Terminals
from tests.sim.breaker_invariants import KEPT
from tests.sim.cache_invariants import CACHED
from tests.sim.control_invariants import CHAIN, COMMITTED, FOLD, JOURNALED
from tests.sim.invariants import (
    CHECKPOINT,
    COMMIT,
    COPY,
    DEAD_LETTER,
    DEFECT,
    DRAINED,
    ONE_HOLDER,
    ONE_RESULT,
    ONE_WRITER,
    OUTPUTS,
    PLANNED,
)
from tests.sim.order_invariants import ORDERED
from tests.sim.planted_control import CONTROL
from tests.sim.planting import Planted as Planted
from tests.sim.planting import plant as plant
from tests.sim.profile import FOREVER_US
from tests.sim.retry_invariants import RETRIED

_ledger: Any = streams.ledger_log
_control: Any = streams.control.control_loop
_send = CommittedConsumer.send
_init_ledger = LedgerLog.__init__
_until_end = LedgerLog._until_end
_run = PartitionRun.run
_end = Outbox.end
_retried = agents.retry.retried
_retry_frame = executors.retry.retry_frame
_init_retries = Retries.__init__
_round = Tenure.round
_drained_us = _Executor.drained_us
_claim = RequestIds.claim
_gate = agents.validator._gate
_feed = Lines.feed


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


async def _is_its_own_duplicate(self: RequestIds, claims: Any, spans: Any) -> dict[int, Claim]:
    known = {at: Claim.unpack(claim) for at, (key, claim) in enumerate(claims) if self._local.get(key) == claim}
    return {**await _claim(self, claims, spans), **known}


async def _refuses_the_holder_too(self: RequestIds, claims: Any, spans: Any) -> dict[int, Claim]:
    """Two of one tick, the holder and its repetition: each is refused for the other's sake."""
    met = await _claim(self, claims, spans)
    by_key = {claims[at][0]: at for at in met}
    for at, (key, claim) in enumerate(claims):
        if at not in met and key in by_key:
            met[at] = Claim.unpack(claims[by_key[key]][1])
            assert met[at] != Claim.unpack(claim)
    return met


def _work_comes_with_time(self: _Executor, now_us: int) -> float:
    return -1e6 * _drained_us(self, now_us)


def _takes_any_value(self: Seal, field: bytes, value: bytes) -> Any:
    del field
    return self._read(value[TAG_BYTES:])


def _forgets_the_policy(view: MemoryView, model: str, version: str) -> CacheScope | None:
    scope = cache_scope(view, model, version)
    return None if scope is None else replace(scope, since=0)


def _every_epoch_is_one(version: ModelVersion, epoch: int) -> bytes:
    return scope_of(version, min(epoch, 1))


def _one_digest(segment: Segment, row_items: Any) -> list[bytes]:
    return [b"a digest of input"[:16]] * len(row_items)


def _counts_every_copy(state: Any, frame: InferenceFrame, now_us: int, memory: MemoryView) -> Any:
    return _gate(state, replace(frame, roles=bytes(len(frame.roles))), now_us, memory)


def _forgets_what_failed(work: Any, rows: Any) -> InferenceFrame:
    return take(_retry_frame(work, rows), np.array([], np.int64))


def _waits_for_nothing(frame: InferenceFrame, *given: Any, **more: Any) -> Any:
    return _retried(replace(frame, not_before_us=0), *given, **more)


def _tries_for_ever(self: Retries, max_attempts: Any) -> None:
    _init_retries(self, lambda _model: 1_000_000)


def _costs_nothing(tokens: Any, name: str, num_rows: int) -> tuple[Any, int]:
    return tokens, num_rows


_FAILING: Final = {"passing": 0.8, "request": 0.1, "warm_up": 1_000, "rate_per_s": 1e6, "give_up_us": FOREVER_US}
_BROKEN: Final = {"breakers": True, "operator": 0.02, "request": 0.1, "warm_up": 1_000}


def _no_row_is_behind(self: KeyLines, progress: Any, row: Any) -> bool:
    return False


def _gives_all_it_has(self: Lines, may_go: Any) -> Any:
    return _feed(self, lambda model: True)


def _as_they_were(frame: Any, effects: Any, *_: Any) -> tuple[Any, ...]:
    return tuple(effects)


_ORDERED: Final = {"ordered": True, "cached": False, "request": 0.1, "warm_up": 1_000, "rate_per_s": 1e6}
_HEDGED: Final = {"hedged": True, "request": 0.1, "warm_up": 1_000}
_CACHED: Final = {"cached": True, "operator": 0.02, "request": 0.1, "warm_up": 1_000, "refusal": 0.0}


PLANTED: Final[dict[str, Planted]] = {
    "the executor forgets rows that are to be tried elsewhere": Planted(
        executors.outbox, "retry_frame", _forgets_what_failed, (COMMIT,), _FAILING
    ),
    "rows are tried again at once": Planted(agents.router, "retried", _waits_for_nothing, (RETRIED,), _FAILING),
    "rows are tried again for ever": Planted(Retries, "__init__", _tries_for_ever, (RETRIED,), _FAILING),
    "another try costs nothing": Planted(
        agents.retry, "spent", _costs_nothing, (RETRIED,), {**_FAILING, "poor": True, "weights": {}, "fault": 0.0}
    ),
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
    "the Router does not look at breakers": Planted(agents.route, "breakers", lambda *_: {}, (KEPT,), _BROKEN),
    "rows that no version may take are left out": Planted(
        agents.router, "refused_rows", lambda *_: {}, (COMMIT, DRAINED, DEFECT), _BROKEN
    ),
    "a copy that went badly ends its request": Planted(
        agents.validator, "_gate", _counts_every_copy, (COPY, OUTPUTS), _HEDGED
    ),
    "a redelivered request is a duplicate of itself": Planted(RequestIds, "claim", _is_its_own_duplicate, (OUTPUTS,)),
    "the edge's forecast takes time that passed for work": Planted(
        _Executor, "drained_us", _work_comes_with_time, (OUTPUTS,)
    ),
    "an id's holder is refused for its own repetition": Planted(
        RequestIds,
        "claim",
        _refuses_the_holder_too,
        (ONE_HOLDER,),
        {
            "weights": {"crash": 1.0, "freeze": 0.5},
            "refusal": 0.0,
            "request": 0.1,
            "fetch": 80,  # one read brings holder and repetition
            "rate_per_s": 1e6,
            "warm_up": 1_000,
            "give_up_us": FOREVER_US,
        },
    ),
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
    "a value of the cache is taken without its tag": Planted(
        Seal,
        "open",
        _takes_any_value,
        (OUTPUTS, CACHED),
        {**_CACHED, "weights": {"redis flushed": 1.0}, "fault": 0.05, "operator": 0.002},
    ),
    "an answer is cached in the epoch after its own": Planted(
        streams.cache.fill, "cache_scope", _forgets_the_policy, (CACHED,), {**_CACHED, "operator": 0.05}
    ),
    "epochs have the same keys": Planted(streams.memory_view, "scope_of", _every_epoch_is_one, (CACHED,), _CACHED),
    "the cache's keys do not tell inputs apart": Planted(
        agents.router, "input_digests", _one_digest, (OUTPUTS,), _CACHED
    ),
    "a row passes one of its key that is being stored": Planted(
        KeyLines, "holds", _no_row_is_behind, (ORDERED,), {**_ORDERED, "blob_bytes": 16, "fetch": 20}
    ),
    "an executor runs rows of a key beside each other": Planted(Lines, "feed", _gives_all_it_has, (ORDERED,), _ORDERED),
    "rows of a key go to the lane of their model": Planted(
        agents.router, "in_order", _as_they_were, (ORDERED,), _ORDERED
    ),
    **CONTROL,
}

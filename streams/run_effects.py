"""Performs the effects of one partition's run, and follows each until it is confirmed.

Any failed or unknown send is the run's failure: nothing is retried in place. Results are written one batch at a time; a
checkpoint is decided from confirmed results only, and confirmations are taken in the order of the log, so that it is
never ahead of its bits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.agent import TICK, Event
from streams.errors import InvariantError, RetriableError
from streams.fenced import RENEW_AFTER_S, FencedWriter
from streams.frame_effects import (
    Answer,
    Confirmed,
    FillCache,
    NoteDecision,
    NoteShadows,
    Scanned,
    ScanRequests,
    SendFrame,
    WriteCheckpoint,
)
from streams.ledger_log import LedgerLog
from streams.ordering import Entry
from streams.results import offsets_of, result_batches
from streams.run_window import RunWindow
from streams.takeover import FrameLostError, HeldPartition
from streams.topics import full_name

if TYPE_CHECKING:
    from streams.interpreter import FrameInterpreter

log = logging.getLogger(__name__)


class SendFailedError(RetriableError):
    """A frame could not be sent, or its fate is unknown."""


@dataclass(slots=True)
class SourceState:
    """The state of a source partition, for all runs that feed it."""

    value: Any


@dataclass(slots=True)
class _Answered:
    effect: Answer
    entry: Entry[Any] | None


def now_us() -> int:
    """Wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class RunEffects:
    """What one run sends and writes. ``scanned`` decides on what a scan of the requests found.

    ``failure`` is what the run has to end with; whoever ends it for another reason says so by ``give_up``.
    """

    def __init__(
        self,
        shell: FrameInterpreter,
        held: HeldPartition,
        ledger: LedgerLog | None,
        source: SourceState,
        scanned: Callable[[Scanned], Awaitable[None]],
    ) -> None:
        self.shell = shell
        self.held = held
        self.ledger = ledger
        self.source = source
        self.window = RunWindow(self._acknowledge, held.events.wake)
        self.answers: list[_Answered] = []
        self.failure: BaseException | None = None
        self._scanned = scanned
        self._writing = False
        self._gave_up = False
        self._side_tasks: set[asyncio.Task[None]] = set()

    def raise_failure(self) -> None:
        """Raise what failed, if anything has."""
        if self.failure is not None:
            raise self.failure
        if self.ledger is not None and self.ledger.results.age_s > RENEW_AFTER_S:
            raise SendFailedError("the claim is a day old and is renewed")

    def give_up(self) -> None:
        """The run ends: of a frame that turns out to be lost later, the take-over is told."""
        self._gave_up = True

    def stop(self) -> None:
        """End what goes on beside the events."""
        for task in self._side_tasks:
            task.cancel()

    async def perform(self, effect: Any, entry: Entry[Any] | None) -> None:
        """Perform an effect that the event of ``entry`` caused; None: no event did."""
        match effect:
            case SendFrame():
                await self._send(effect, entry)
            case Answer():
                self._answer(effect, entry)
            case FillCache():
                if self.shell.fill is not None:
                    self.shell.fill(effect.payloads)
            case NoteDecision():
                self.shell.counts.decided(effect)
            case NoteShadows():
                self.shell.counts.compared(effect)
            case WriteCheckpoint():
                self._beside(self._ledger().write_checkpoint(effect.checkpoint), "writing a checkpoint")
            case ScanRequests():
                self._beside(self._scan(effect), "the reaper's scan")
            case _:
                raise InvariantError(
                    f"{self.shell.spec.name} emitted {type(effect).__name__}, which nothing interprets"
                )

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``, unless it ends with an earlier one; a lost frame counts for more than others."""
        if self.failure is None or isinstance(error, FrameLostError):
            self.failure = error
        self.held.events.wake()

    def _acknowledge(self, event: Any) -> None:
        if self.shell.takeover.is_current(self.held):
            event.ack()

    def _ledger(self) -> LedgerLog:
        if self.ledger is None:
            raise InvariantError(f"{self.shell.spec.name} has no ledger: it may not answer, checkpoint or scan")
        return self.ledger

    async def _send(self, effect: SendFrame, entry: Entry[Any] | None) -> None:
        if effect.topic not in self.shell.spec.emits:
            raise InvariantError(f"{self.shell.spec.name} may not write {effect.topic}")
        value = self.shell.codec.encode(effect.topic, effect.frame)
        try:
            future = await self.shell.producer.send(full_name(effect.topic), value, partition=effect.partition)
        except KafkaError as error:
            # For want of room or of metadata nothing was taken; anything else is the producer's last word.
            failed = SendFailedError if error.retriable or isinstance(error, KafkaTimeoutError) else FrameLostError
            raise failed(f"sending to {effect.topic} failed: {error!r}") from error
        self.shell.counts.sent(effect)
        self.window.send(entry)
        future.add_done_callback(lambda done: self._sent(done, entry))

    def _sent(self, done: asyncio.Future[Any], entry: Entry[Any] | None) -> None:
        error = _failure_of(done)
        if error is not None:
            lost = FrameLostError(f"a frame's send failed: {error!r}")
            self.fail(lost)
            if self._gave_up:  # for another reason, before it heard of this: nobody else tells
                self.shell.takeover.frame_lost(lost)
            return
        self.window.confirm(entry)

    def _answer(self, effect: Answer, entry: Entry[Any] | None) -> None:
        self.window.send(entry)
        self.answers.append(_Answered(effect, entry))
        if not self._writing:
            self._writing = True
            self._beside(self._write(self._ledger().results), "writing results")

    async def _write(self, results: FencedWriter) -> None:
        """Write all answers at hand, one write at a time: what comes meanwhile leaves together with the next.

        A partition has one batch under way, so a batch per frame would bound the frames per second by the round trip.
        """
        while self.answers:
            group, self.answers = self.answers, []
            batches = result_batches(self.shell.codec, [each.effect for each in group])
            try:
                _, end = await results.confirm(await results.submit_batches(batches))
            except RetriableError as error:
                log.warning("a write of results to partition %d failed: %s", self.held.partition, error)
                raise
            for answered in group:
                self._confirm(answered, end)
        self._writing = False

    def _confirm(self, answered: _Answered, end: int) -> None:
        """Take one confirmation; a group's are taken in one go, so no checkpoint is ahead of its bits."""
        offsets, spec = offsets_of(answered.effect.frame), self.shell.spec
        confirmed = Confirmed(offsets, end, len(offsets) if answered.effect.reaped else 0)
        self.source.value, _ = spec.decide(self.source.value, Event(confirmed, TICK, now_us()), spec.params)
        self.shell.counts.answered(answered.effect.frame, answered.effect.completed_us)
        self.window.confirm(answered.entry)

    def _beside(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Run beside the events; whatever it raises ends the run."""

        def ended(done: asyncio.Task[None]) -> None:
            self._side_tasks.discard(done)
            error = None if done.cancelled() else done.exception()
            if isinstance(error, KafkaError):
                error = SendFailedError(f"{what} failed: {error!r}")
            if error is not None:
                self.fail(error)

        task = asyncio.ensure_future(work)
        self._side_tasks.add(task)
        task.add_done_callback(ended)

    async def _scan(self, effect: ScanRequests) -> None:
        await self._scanned(await self._ledger().scan(effect))


def _failure_of(done: asyncio.Future[Any]) -> BaseException | None:
    """What a finished future failed with, a cancellation included."""
    return asyncio.CancelledError() if done.cancelled() else done.exception()

"""Taking over partitions under Faust without ever blocking a rebalance.

Faust calls back when partitions are assigned, and heartbeats only start after the callback returns: work done inside it
(fence, fold) loops for ever once it outlasts the session. So the callback only *starts* one task per partition, and
events wait in bounded queues until that task has made the partition ready. Every generation begins anew for **all**
its partitions: "newly assigned" would miss one that was lost and came back. What an older generation still holds is
cancelled, never acknowledged, and delivered again from the committed offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import faust

from streams.errors import FencedError, RetriableError
from streams.event_queue import EventQueue

log = logging.getLogger(__name__)

QUEUE_SIZE: Final = 4096
MAX_NEWS: Final = 4096
FIRST_BACKOFF_S: Final = 0.2
MAX_BACKOFF_S: Final = 5.0
FENCED_BACKOFF_S: Final = 3.0
DRAIN_LOOK_S: Final = 0.01


class FrameLostError(RetriableError):
    """A frame's send failed: what its producer sends from now on is refused, or would stand in front of it."""


@dataclass(slots=True)
class HeldPartition:
    """One partition in one generation: ``events`` are Faust events in offset order.

    ``ready`` is set by the runner once the partition is folded and fenced. ``backlog`` holds what a runner that gave up
    had taken and not finished; its successor begins with it. ``fed_offset`` is that of the last event that Faust handed
    over (-1: none yet). ``unfinished`` counts the events that the runner took and has not acknowledged. ``news`` are
    events that stand nowhere: unlike those of Faust they are lost with the run (there were ``num_runs``), and the
    oldest where there are too many.
    """

    topic: str
    partition: int
    generation: int
    events: EventQueue = field(default_factory=lambda: EventQueue(QUEUE_SIZE))
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    backlog: list[Any] = field(default_factory=list)
    fed_offset: int = -1
    unfinished: Callable[[], int] = lambda: 0
    task: asyncio.Task[None] | None = None
    num_runs: int = 0
    news: deque[Any] = field(default_factory=lambda: deque(maxlen=MAX_NEWS))

    def tell(self, news: Any) -> None:
        """Hand the runner an event that stands nowhere."""
        self.news.append(news)
        self.events.wake()


Runner = Callable[[HeldPartition], Awaitable[None]]


class Takeover:
    """Routes an app's events to per-partition tasks and restarts these with each generation.

    ``runner(held)`` owns a partition until it is cancelled; it takes over (fence, fold), sets ``held.ready``, then
    consumes ``held.events``. When it raises ``RetriableError`` (fenced, unknown write) the whole generation's claim on
    that partition is void: the runner starts again with back-off and the events since the last acknowledged one are put
    back in front of it. Anything else it raises is a defect and goes to ``on_defect``, and so does ``FrameLostError``,
    of which only a process with a new producer recovers.
    """

    def __init__(
        self,
        app: faust.App,
        runner: Runner,
        on_defect: Callable[[BaseException], None],
        *,
        fenced_backoff_s: float = FENCED_BACKOFF_S,
    ) -> None:
        self._fenced_backoff_s = fenced_backoff_s
        self._runner = runner
        self._on_defect = on_defect
        self.generation = 0
        self._draining = False
        self.held: dict[tuple[str, int], HeldPartition] = {}
        self.assigned_once = asyncio.Event()
        assigned: Any = self._assigned  # mode's signal type asks for a signature that it never calls with
        revoked: Any = self._revoked
        app.on_partitions_assigned.connect(assigned)
        app.on_partitions_revoked.connect(revoked)

    async def _assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        self._drop()
        for each in sorted(assigned):
            held = HeldPartition(each.topic, each.partition, self.generation)
            self.held[(each.topic, each.partition)] = held
            held.task = asyncio.create_task(self._run(held), name=f"take-over {each.topic}-{each.partition}")
        log.info("generation %d holds %s", self.generation, [f"{t}-{p}" for t, p in self.held])
        self.assigned_once.set()

    async def _revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        self._drop()

    def _drop(self) -> None:
        self.generation += 1
        for held in self.held.values():
            if held.task is not None:
                held.task.cancel()
            while not held.events.empty():  # a feeder may wait for room in a queue that nobody reads any more
                held.events.get_nowait()
        self.held = {}

    async def _run(self, held: HeldPartition) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            held.news.clear()
            held.num_runs += 1
            try:
                await self._runner(held)
                return
            except FrameLostError as error:
                self._on_defect(error)
                return
            except RetriableError as error:
                if held.ready.is_set():  # it served: what ended it is a new trouble, not the last one going on
                    backoff = FIRST_BACKOFF_S
                held.ready.clear()
                log.warning("%s-%d is given up and taken over again: %s", held.topic, held.partition, error)
                # Whoever was fenced has most likely lost the partition and hears of it within a heartbeat or two; to
                # claim at once would shut the rightful owner out for nothing.
                await asyncio.sleep(max(backoff, self._fenced_backoff_s if isinstance(error, FencedError) else 0))
                backoff = min(backoff * 2, MAX_BACKOFF_S)
            except Exception as error:  # noqa: BLE001 - a defect of ours: the process must end loudly, not sit silent
                self._on_defect(error)
                return

    def frame_lost(self, error: FrameLostError) -> None:
        """Note that a frame of a run that has given up was lost: the producer is of no use to its successor."""
        self._on_defect(error)

    async def feed(self, event: Any) -> None:
        """Hand an event to its partition's queue; one of a partition no longer held is dropped unacknowledged."""
        message = event.message
        held = self.held.get((message.topic, message.partition))
        if held is not None and not self._draining:
            held.fed_offset = message.offset
            await held.events.put(event)

    def awaited(self) -> list[HeldPartition]:
        """The partitions that Faust can hand events to: none while one queue is full and holds all others up."""
        held = list(self.held.values())
        return [] if any(each.events.full() for each in held) else held

    async def drain(self) -> None:
        """Take no more events and wait until those at hand are acknowledged; what was refused is delivered again."""
        self._draining = True
        while any(not held.events.empty() or held.unfinished() for held in self.held.values()):
            await asyncio.sleep(DRAIN_LOOK_S)

    def is_current(self, held: HeldPartition) -> bool:
        """Whether ``held`` belongs to the running generation."""
        return held.generation == self.generation

    async def stop(self) -> None:
        """Cancel all partition tasks and wait for their end."""
        tasks = [held.task for held in self.held.values() if held.task is not None]
        self._drop()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Rows of many frames in, batches out; pure, no clock, no I/O.

The unit is a slice: consecutive rows of one segment with one priority. One queue per (model, version, signature).

- **Priorities** 0 to 9, 0 first, strict between classes. A queue stands in the class of its most urgent row. So that 9
  does not starve for ever, a row rises one class for each ``AGE_US`` it has waited: after 9 x ``AGE_US`` every row is
  in class 0, where it shares the time with the others.
- **Between the queues of a class**: weighted deficit round robin on service time (Shreedhar and Varghese 1995, in its
  surplus form: a queue is served while its deficit is positive and pays afterwards), so that models share time, not
  batches or rows. O(1) per batch however many models there are.
- **Inside a queue** (``executors/row_queue.py``): class, priority, first come, first served. A batch is what is there,
  up to the profile's ``cap``; none waits for more. Less urgent rows ride along with urgent ones up to ``ride_cap``.
- **Early drop**: rows whose deadline would pass before the batch they would ride in is done come back as expired. It
  keeps goodput up under overload, where earliest deadline first collapses.
- **Bulkheads**: items and bytes waiting per model are bounded; ``add`` refuses above it, less urgent rows sooner, so
  that a flood of them leaves room for urgent ones.
- **Beside a batch**: a version in ``busy`` waits, but for rows below the priority noted there: nothing interrupts a
  session, so rows more urgent than the batch under way run beside it instead of behind it.

Invariant: every row added comes back exactly once, in a batch, as expired, or from ``drop``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from math import inf, prod
from typing import Any, Final

from executors.profile import Profile, Version
from executors.row_queue import AGE_US, PRIORITIES, Batch, BatchKey, ModelLoad, RowQueue, take
from executors.row_slice import RowSlice

QUANTUM_US: Final = 1_000.0
"""Service time that a queue of weight 1 earns per round."""
MAX_MODEL_ITEMS: Final = 100_000
"""What piles up before a fast model in an outage of half a minute, which it works off in seconds, must not be refused:
too late rows expire, and bytes are bounded beside it. So this bounds only what a row costs in Python."""
MAX_MODEL_BYTES: Final = 128 << 20
SHARE_STEP: Final = 0.05
"""By so much of the bounds less than priority 0 may fill, each further priority may."""
LEAST_SHARE: Final = 1.0 - SHARE_STEP * (PRIORITIES - 1)

_Ring = OrderedDict[BatchKey, RowQueue]


class Batcher:
    """The queues. Not safe for threads.

    ``busy``, kept by the caller: versions of which a batch is under way, and the priority below which rows may run
    beside it (0: none).
    """

    __slots__ = (
        "_loads",
        "_max_bytes",
        "_max_items",
        "_next_look_us",
        "_parked",
        "_queues",
        "_rings",
        "busy",
        "queued_items",
    )

    def __init__(self, max_items: int = MAX_MODEL_ITEMS, max_bytes: int = MAX_MODEL_BYTES) -> None:
        self._queues: dict[BatchKey, RowQueue] = {}
        self._rings: tuple[_Ring, ...] = tuple([OrderedDict() for _ in range(PRIORITIES)])
        self._parked: dict[BatchKey, RowQueue] = {}
        self._loads: dict[str, ModelLoad] = {}
        self._max_items, self._max_bytes = max_items, max_bytes
        self._next_look_us = 0
        self.busy: dict[Version, int] = {}
        self.queued_items = 0

    def add(
        self,
        key: BatchKey,
        frame: Any,
        segment: int,
        priorities: bytes,
        row_items: Sequence[int],
        deadlines_us: Sequence[int],
        now_us: int,
    ) -> list[RowSlice]:
        """Queue all rows of a segment (at least one); the three columns have one entry per row.

        Gives back those that would pass the model's bound for their priority, unless none of its rows wait.
        """
        whole = RowSlice(
            frame, segment, 0, len(row_items), 0, sum(row_items), priorities[0], now_us, min(deadlines_us), row_items,
            deadlines_us,
        )  # fmt: skip
        queue = self._queues.get(key) or self._open(key)
        load = queue.load
        if load.num_items and (
            load.num_items + whole.num_items > self._max_items * LEAST_SHARE
            or load.num_bytes + whole.num_items * queue.item_bytes > self._max_bytes * LEAST_SHARE
        ):
            return self._put_bounded(queue, whole, priorities)
        if priorities.count(priorities[0]) == len(priorities):
            self._put(queue, whole)
        else:
            for piece in whole.by_priority(priorities):
                self._put(queue, piece)
        return []

    def _put_bounded(self, queue: RowQueue, whole: RowSlice, priorities: bytes) -> list[RowSlice]:
        """Queue the rows for which there is room; a flood of less urgent ones leaves some to the more urgent."""
        refused: list[RowSlice] = []
        load = queue.load
        for piece in whole.by_priority(priorities):
            share = 1.0 - SHARE_STEP * min(piece.priority, PRIORITIES - 1)
            if load.num_items and (
                load.num_items + piece.num_items > self._max_items * share
                or load.num_bytes + piece.num_items * queue.item_bytes > self._max_bytes * share
            ):
                refused.append(piece)
            else:
                self._put(queue, piece)
        if not queue.lanes:
            self._forget(queue)
        return refused

    def put(self, key: BatchKey, row_slice: RowSlice) -> None:
        """Queue rows of one priority, without a bound: whoever has them counted them."""
        self._put(self._queues.get(key) or self._open(key), row_slice)

    def holds(self, model: str) -> bool:
        """Whether rows of a model wait here."""
        return model in self._loads

    def next_batch(
        self, now_us: int, profiles: Mapping[Version, Profile], max_time_us: float = inf
    ) -> Batch | None:  # fmt: skip
        """Take the next batch; None when nothing waits that may run now.

        What may not waits: versions without a profile, busy ones, and batches longer than ``max_time_us``.
        """
        if self._parked:
            self._unpark(profiles, max_time_us)
        if now_us >= self._next_look_us:
            self._age(now_us)
        queue = self._pick(profiles, max_time_us)
        if queue is None:
            return None
        profile = profiles[queue.of]
        batch = take(queue, profile, now_us, self.busy.get(queue.of, PRIORITIES))
        taken = batch.num_items
        for row_slice in batch.expired:
            taken += row_slice.num_items
        self._leave(queue, taken)
        if batch.slices:
            batch.time_us = profile.time_us(batch.num_items)
            queue.deficit_us -= batch.time_us
        if not queue.lanes:
            self._forget(queue)  # an empty queue neither saves nor owes
        else:
            self._place(queue, now_us)
        return batch

    def waiting(self) -> Mapping[BatchKey, int]:
        """Items waiting per key."""
        return {key: queue.num_items for key, queue in self._queues.items()}

    def queued(self) -> Iterator[tuple[Version, int, int]]:
        """Version, priority and items of what waits; versions and priorities may come several times."""
        for queue in self._queues.values():
            rest = queue.num_items
            *others, last = queue.lanes
            for priority in others:
                num_items = sum([row_slice.num_items for row_slice in queue.lanes[priority]])
                rest -= num_items
                yield queue.of, priority, num_items
            yield queue.of, last, rest

    def drop(self, model: str, version: str) -> list[RowSlice]:
        """Take out every row of a version, for the caller to answer: it could not be loaded."""
        found: list[RowSlice] = []
        for queue in [queue for queue in self._queues.values() if queue.of == (model, version)]:
            self._leave(queue, queue.num_items)
            found += [row_slice for lane in queue.lanes.values() for row_slice in lane]
            self._forget(queue)
        return found

    def _open(self, key: BatchKey) -> RowQueue:
        item_bytes = sum([prod(shape) * width for _, shape, width in key.signature])
        load = self._loads.setdefault(key.model, ModelLoad())
        queue = self._queues[key] = RowQueue(key, (key.model, key.version), item_bytes, load, urgency=PRIORITIES)
        return queue

    def _put(self, queue: RowQueue, row_slice: RowSlice) -> None:
        priority = min(row_slice.priority, PRIORITIES - 1)
        lane = queue.lanes.get(priority)
        if lane is None:
            lane = queue.lanes[priority] = deque()
        lane.append(row_slice)
        queue.num_items += row_slice.num_items
        queue.load.num_items += row_slice.num_items
        queue.load.num_bytes += row_slice.num_items * queue.item_bytes
        self.queued_items += row_slice.num_items
        if priority < queue.urgency:
            if queue.urgency < PRIORITIES:
                self._rings[queue.urgency].pop(queue.key, None)
            queue.urgency = priority
            if queue.key not in self._parked:
                self._rings[priority][queue.key] = queue

    def _leave(self, queue: RowQueue, num_items: int) -> None:
        queue.num_items -= num_items
        queue.load.num_items -= num_items
        queue.load.num_bytes -= num_items * queue.item_bytes
        self.queued_items -= num_items

    def _forget(self, queue: RowQueue) -> None:
        del self._queues[queue.key]
        self._parked.pop(queue.key, None)
        if queue.urgency < PRIORITIES:
            self._rings[queue.urgency].pop(queue.key, None)
        if queue.load.num_items == 0:
            self._loads.pop(queue.key.model, None)

    def _place(self, queue: RowQueue, now_us: int) -> None:
        """Into the ring of its class; to the end of it when it has used up its time."""
        urgency = queue.urgency_at(now_us)
        if urgency != queue.urgency:
            self._rings[queue.urgency].pop(queue.key, None)
            queue.urgency = urgency
            self._rings[urgency][queue.key] = queue
        elif queue.deficit_us <= 0:
            self._rings[urgency].move_to_end(queue.key)

    def _age(self, now_us: int) -> None:
        """Raise what has waited; looked at now and then, and only where several classes wait."""
        self._next_look_us = now_us + AGE_US // 5
        if sum([1 for ring in self._rings if ring]) > 1:
            for ring in self._rings[1:]:
                for queue in list(ring.values()):
                    if queue.urgency_at(now_us) < queue.urgency:
                        self._place(queue, now_us)

    def _pick(self, profiles: Mapping[Version, Profile], max_time_us: float) -> RowQueue | None:
        for ring in self._rings:
            while ring:
                queue = next(iter(ring.values()))
                if not self._may_run(queue, profiles, max_time_us):
                    del ring[queue.key]
                    self._parked[queue.key] = queue
                elif len(ring) == 1:
                    queue.deficit_us = max(queue.deficit_us, 0.0)  # time that nobody else wanted is not owed
                    return queue
                elif queue.deficit_us > 0:
                    return queue
                else:
                    queue.deficit_us += QUANTUM_US * profiles[queue.of].weight
                    if queue.deficit_us > 0:
                        return queue
                    ring.move_to_end(queue.key)
        return None

    def _may_run(self, queue: RowQueue, profiles: Mapping[Version, Profile], max_time_us: float) -> bool:
        profile = profiles.get(queue.of)
        return (
            profile is not None
            and (queue.of not in self.busy or min(queue.lanes) < self.busy[queue.of])
            and profile.time_us(min(queue.num_items, profile.cap)) < max_time_us
        )

    def _unpark(self, profiles: Mapping[Version, Profile], max_time_us: float) -> None:
        for queue in list(self._parked.values()):
            if self._may_run(queue, profiles, max_time_us):
                del self._parked[queue.key]
                self._rings[queue.urgency][queue.key] = queue

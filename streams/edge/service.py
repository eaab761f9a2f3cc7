"""What is known of one version that is served: who does it and how fast, what waits, when a row would be done; pure.

An executor's report says what waits there and how fast it is served. What this edge admitted since and the report does
not know yet is counted here, per version and priority (``_Sent``); how much of that the executor really takes, and what
other edges send it, is learned from the rows that it took (``ratio``). The time since the report is work that is done,
as far as there was any.

The model is that of ``executors/batcher.py``. More urgent rows go first; the versions that wait in a class share the
time, so that a version's own rows wait no longer than all that waits, and no longer than its own queue times the number
of versions. Short batches run one after the other, long ones up to ``num_threads`` at a time, one per version. That a
row rises with its age, and that rows expire while they wait, is left out: who is admitted in error is dropped by the
executor before it costs anything.

Bounds: ``MAX_SENT`` ticks per version and priority.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.load import ExecutorLoad, VersionLoad

FRESH_US: Final = 1_000_000
"""So long an executor's report counts although one of another, which has more to do, is newer."""
FORGET_US: Final = 3_000_000
"""A report that is older says nothing. An executor that has work sends four a second."""
MAX_DRAIN_US: Final = 500_000
"""At most so much is taken for done since a report of an executor that had work: it may stand still."""
MARGIN_US: Final = 10_000
"""Time on the way, and a share of the wait for what is not known."""
MARGIN_SHARE: Final = 1 / 16
SURE_US: Final = 50_000
"""Waits below it are near no limit that is worth a closer look."""
MAX_SENT: Final = 1_024
"""Ticks that are told apart, per version and priority."""
PRIORITIES: Final = 10
PRIOR_ROWS: Final = 16.0
DECAY: Final = 0.8
MAX_RATIO: Final = 4.0

LATE_SHARE: Final = 0.02
MORE: Final = 0.5
LESS: Final = 0.95
MAX_CAUTION: Final = 4.0
"""Of the wait, on top of the margin: a machine that does other things beside is slower than its batches say."""

Version = tuple[str, str]
Array = NDArray[Any]


@dataclass(eq=False, slots=True)
class _Sent:
    """Rows of one version and priority admitted here since the newest frame that the executor had taken."""

    times_us: deque[tuple[int, int, int]] = field(default_factory=deque)
    num_items: int = 0

    def add(self, now_us: int, num_rows: int, num_items: int) -> None:
        self.num_items += num_items
        if len(self.times_us) == MAX_SENT:  # of an executor that takes nothing; together they are taken later
            _, rows, items = self.times_us.pop()
            num_rows, num_items = num_rows + rows, num_items + items
        self.times_us.append((now_us, num_rows, num_items))

    def taken_until(self, newest_us: int) -> int:
        """Forget what the executor has taken; how many rows that were."""
        num_rows = 0
        while self.times_us and self.times_us[0][0] <= newest_us:
            _, rows, items = self.times_us.popleft()
            num_rows += rows
            self.num_items -= items
        return num_rows


@dataclass(slots=True)
class NewestReport:
    """An executor's newest report: when it was made by this process's clock, when it came, what it says.

    ``counted``: rows of each version taken, and late, by the newest report that names it.
    """

    at_us: int
    came_us: int
    load: ExecutorLoad
    is_idle: bool
    versions: dict[Version, VersionLoad]
    counted: dict[Version, tuple[int, int]]

    def drained_us(self, now_us: int) -> float:
        """Work that is done since the report."""
        since = max(0, now_us - self.at_us)
        return since if self.is_idle else min(since, MAX_DRAIN_US)


@dataclass(frozen=True, slots=True)
class _Queue:
    """What stands before a row of one version and priority by the newest report; times in microseconds.

    ``num_own``: items of its own version; ``running``: what is left of its version's batch; ``before``: more urgent
    rows of other versions; ``peers``: their rows of the same class, of ``num_peers`` versions; ``width``: how many
    batches run side by side.
    """

    num_own: int
    running: float
    before: float
    peers: float
    num_peers: int
    width: int


@dataclass(eq=False, slots=True)
class Service:
    """What is known of one version: who serves it and how fast, and what was admitted for it."""

    load: VersionLoad
    executor: NewestReport
    sent: dict[int, _Sent] = field(default_factory=dict)
    queues: dict[int, _Queue] = field(default_factory=dict)
    caution: float = 0.0
    rows_taken: float = PRIOR_ROWS
    rows_sent: float = PRIOR_ROWS
    sure_items: float = 0.0
    takers: dict[str, int] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Rows that the executor takes for each row of it that this edge admits."""
        return min(self.rows_taken / self.rows_sent, MAX_RATIO) / max(1, len(self.takers))

    def is_shorter(self, load: VersionLoad, executor: NewestReport, now_us: int) -> bool:
        """Whether a row would wait less here than with the executor of a newer report."""
        if now_us - self.executor.came_us > FRESH_US:
            return False
        one, other = np.ones(1), Service(load, executor)
        mine = self.finish_us(PRIORITIES - 1, 0 * one, one, now_us)[1]
        return bool(mine[0] < other.finish_us(PRIORITIES - 1, 0 * one, one, now_us)[1][0])

    def count(self, load: VersionLoad, before: tuple[int, int] | None) -> None:
        """Count what another executor took of it since its last report."""
        if before is not None:
            self.rows_taken += max(0, load.num_taken - before[0])

    def took(self, executor: str, now_us: int) -> None:
        """Note who has taken rows of it, and forget who has not for a while."""
        if len(self.takers) > 1 or executor not in self.takers:
            self.takers = {name: at for name, at in self.takers.items() if now_us - at < FORGET_US}
        self.takers[executor] = now_us

    @property
    def is_forgotten(self) -> bool:
        """Whether no rows of it came for so long that nothing worth keeping is known."""
        return self.rows_taken < PRIOR_ROWS + 0.5 and not any(sent.times_us for sent in self.sent.values())

    def admitted(self, priority: int, num_rows: int, num_items: int, now_us: int) -> None:
        """Count rows that were admitted."""
        sent = self.sent.get(priority)
        if sent is None:
            sent = self.sent[priority] = _Sent()
        sent.add(now_us, num_rows, num_items)
        self.sure_items -= num_items

    def finish_us(self, priority: int, ahead: Array, items: Array, now_us: int) -> tuple[Array, Array]:
        """When rows would be done, with a margin, and how long each would wait (0: it would not).

        ``ahead``: items of this tick and version that go before each; ``items``: its own. Both float64 or int64 [n].
        """
        load, queue = self.load, self._queue(priority)
        total = queue.num_own + self.ratio * (self._sent(priority) + ahead) + items
        batches = np.ceil(total / load.max_batch_size)
        ride = load.fixed_us + load.per_item_us * np.minimum(total, load.max_batch_size)
        own = queue.running + batches * ride
        shared = np.minimum(own + queue.peers, own * (1 + queue.num_peers))
        wait = np.maximum(own, (queue.before + shared) / queue.width)
        wait = np.maximum(wait - self.executor.drained_us(now_us) - ride, 0.0)
        return now_us + ride + wait + np.minimum(wait, MARGIN_US) + wait * (MARGIN_SHARE + self.caution), wait

    def latest_us(self, priority: int, num_items: int, now_us: int) -> float:
        """``finish_us`` of the last of so many items, no sooner: what it is for all where that is early enough."""
        load, queue = self.load, self._queue(priority)
        total = queue.num_own + max(self.ratio, 1.0) * (self._sent(priority) + num_items)
        ride = load.fixed_us + load.per_item_us * min(total, load.max_batch_size)
        own = queue.running + ceil(total / load.max_batch_size) * ride
        shared = min(own + queue.peers, own * (1 + queue.num_peers))
        wait = max(max(own, (queue.before + shared) / queue.width) - self.executor.drained_us(now_us) - ride, 0.0)
        return now_us + ride + wait + min(wait, MARGIN_US) + wait * (MARGIN_SHARE + self.caution)

    def _sent(self, priority: int) -> int:
        """Items admitted here that go before a row of this priority."""
        return sum([sent.num_items for of, sent in self.sent.items() if of <= priority])

    def _learn(self, num_taken: int, num_late: int) -> None:
        """More caution where many rows are late in spite of the forecast, less with every report that says else."""
        if num_late > LATE_SHARE * num_taken:
            self.caution = min(MAX_CAUTION, self.caution + MORE)
        elif num_taken:
            self.caution *= LESS

    def _queue(self, priority: int) -> _Queue:
        found = self.queues.get(priority)
        if found is None:
            found = self.queues[priority] = _queue_of(self.load, self.executor, priority)
        return found

    def renew(self, load: VersionLoad, executor: NewestReport, before: tuple[int, int] | None) -> None:
        """Take a newer report; ``before``: rows taken and late by the executor's last one, None if it is long ago."""
        num_sent = sum([sent.taken_until(executor.load.newest_us) for sent in self.sent.values()])
        num_taken = -1 if before is None else load.num_taken - before[0]
        if before is not None and num_taken >= 0:
            self._learn(num_taken, load.num_late - before[1])
            # else they are other edges' alone, or what was sent before this one's start
            says_something = num_sent > 0 or len(self.takers) > 1
            self.rows_taken = DECAY * self.rows_taken + (1 - DECAY) * PRIOR_ROWS + num_taken * says_something
            self.rows_sent = DECAY * self.rows_sent + (1 - DECAY) * PRIOR_ROWS + num_sent
        self.load, self.executor = load, executor
        self.queues.clear()
        last = self._queue(PRIORITIES - 1)
        ride = (1 + last.num_peers) * (load.fixed_us + load.per_item_us * load.max_batch_size)
        waits = max(last.running + ride, last.before + last.peers) + _time_us(load, last.num_own)
        pending = self.ratio * sum([sent.num_items for sent in self.sent.values()])
        each = (load.per_item_us + load.fixed_us / load.max_batch_size) * (1 + last.num_peers)
        self.sure_items = (SURE_US - waits) / max(each, 1e-3) / max(self.ratio, 1.0) - pending


def _time_us(load: VersionLoad, num_items: float) -> float:
    """Time of the batches of so many items."""
    if num_items <= 0:
        return 0.0
    return max(1.0, num_items / load.max_batch_size) * load.fixed_us + num_items * load.per_item_us


def _queue_of(own: VersionLoad, executor: NewestReport, priority: int) -> _Queue:
    before = peers = 0.0
    num_before = num_peers = 0
    for each in executor.versions.values():
        if each.is_long != own.is_long or (each.model, each.version) == (own.model, own.version):
            continue
        urgent = sum(each.waiting_items[:priority])
        if urgent or each.running_us:
            before += _time_us(each, urgent) + each.running_us
            num_before += 1
        same = sum(each.waiting_items[priority : priority + 1])
        if same:
            peers += _time_us(each, urgent + same) - _time_us(each, urgent)
            num_peers += 1
    width = min(executor.load.num_threads, 1 + max(num_before, num_peers)) if own.is_long else 1
    return _Queue(sum(own.waiting_items[: priority + 1]), own.running_us, before, peers, num_peers, max(1, width))

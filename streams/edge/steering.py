"""Which executor the next frame goes to where some have much more to do than others: the one with the least work; pure.

A Router gives a model's frames to its lanes in turn, by the frame's number (``streams.lane_class.lane_of_frame``), so
each executor gets the same share whatever waits in it. After a step of the load the first executor has a backlog, and a
new one beside it has none; executors on a busy machine differ too. So while waits differ by more than ``UNEVEN_US`` an
edge leaves out the numbers that would go to others: the frame says where it goes, and routing is derived again from it.

A number leads each model of a frame to a place among its own executors, which stand in another order for each model. So
of the next numbers an edge takes the first with which no model waits much longer than in the best of its executors,
else the one with which the longest of these differences is least (the first of equals).

What waits is what executors report (four times a second while there is any; who says nothing has nothing) and what this
edge sent since. Of an executor that takes nothing for ``SILENT_US`` it is not known who has its lane: then frames take
turns again, for ``REST_US``. So they do after the clock was set back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.load import ExecutorLoad, VersionLoad
from streams.edge.forecast import MAX_LAG_US
from streams.edge.service import FORGET_US, FRESH_US, MAX_DRAIN_US
from streams.lane_class import lane_of_frame, lanes_in_use, lanes_of, pool_of
from streams.memory_view import MemoryView, derived, ordered_models, plan, replicas

UNEVEN_US: Final = 100_000
SILENT_US: Final = 1_500_000
REST_US: Final = 5_000_000
MAX_SENT: Final = 1_024
"""Ticks that are told apart per executor."""
MAX_LOOK: Final = 16
"""Numbers that are looked at for a frame: they lead to each of up to eleven executors."""

Ways = Callable[[str], tuple[str, ...]]
"""Names of the executors whose lanes the frames of a model take in turn, in the Router's order."""


def alone(_model: str) -> tuple[str, ...]:
    """No model has several lanes."""
    return ()


@dataclass(slots=True)
class _Queue:
    """An executor: work that waited as of ``at_us`` (microseconds), heard at ``came_us``; what was sent since.

    ``item_us``: time of an item in a full batch, by model. ``sent``: when, and work.
    """

    at_us: int = 0
    came_us: int = 0
    work_us: float = 0.0
    item_us: dict[str, float] = field(default_factory=dict)
    sent: deque[tuple[int, float]] = field(default_factory=deque)
    sent_us: float = 0.0

    def add(self, now_us: int, work_us: float) -> None:
        self.sent_us += work_us
        if self.sent and (len(self.sent) == MAX_SENT or self.sent[-1][0] == now_us):
            work_us += self.sent.pop()[1]
        self.sent.append((now_us, work_us))

    def took(self, newest_us: int, now_us: int) -> None:
        """Forget what was sent until then, and what a clock that was set back has sent later than now."""
        self.sent = deque([each for each in self.sent if newest_us < each[0] <= now_us])
        self.sent_us = sum([work_us for _, work_us in self.sent], 0.0)

    def is_known(self, now_us: int) -> bool:
        """Whether the report is not too old; one of the future is of a clock that was set back."""
        return 0 <= now_us - self.came_us <= FORGET_US

    def wait_us(self, now_us: int) -> float:
        """What is left of the work; at most ``MAX_DRAIN_US`` of it is taken for done since the report."""
        if not self.is_known(now_us):
            return self.sent_us
        left = self.work_us - min(max(0, now_us - self.at_us), MAX_DRAIN_US)
        return max(0.0, left) + self.sent_us

    def is_silent(self, now_us: int) -> bool:
        return bool(self.sent) and not 0 <= now_us - self.sent[0][0] <= SILENT_US


class Steering:
    """What one edge knows of the executors. ``is_uneven``: whether there is anything to steer."""

    def __init__(self, ways: Ways = alone) -> None:
        self.is_uneven = False
        self._ways = ways
        self._queues: dict[str, _Queue] = {}
        self._rest_until_us = 0
        self._astray_us: dict[str, int] = {}
        """By model when a frame last went where it waits much longer than elsewhere, for the sake of another model."""

    def spreads(self, model: str, now_us: int) -> bool:
        """Whether frames of a model go to the executor that has least to do: not while they take turns all the same."""
        if len(self._ways(model)) < 2 or self._rests(now_us):
            return False
        return not 0 <= now_us - self._astray_us.get(model, -FRESH_US) < FRESH_US

    def take(self, load: ExecutorLoad, now_us: int) -> None:
        """Take a report that has just come."""
        queue = self._queues.setdefault(load.executor, _Queue())
        queue.at_us, queue.came_us = min(max(load.sent_us, now_us - MAX_LAG_US), now_us), now_us
        queue.work_us = sum([_work_us(each) for each in load.versions])
        queue.item_us.update({each.model: _item_us(each) for each in load.versions})
        queue.took(load.newest_us, now_us)
        waits = [each.wait_us(now_us) for each in self._queues.values() if each.is_known(now_us)]
        self.is_uneven = max(waits) > UNEVEN_US

    def number(self, frame_id: int, items: Mapping[str, int], now_us: int) -> int:
        """The number for a frame with so many items of each model, ``frame_id`` or one of the next ones."""
        if not self.is_uneven or self._rests(now_us):
            return frame_id
        of = {model: ways for model in items if len(ways := self._ways(model)) > 1}
        queues = {name: self._queues.setdefault(name, _Queue()) for ways in of.values() for name in ways}
        if any(queue.is_silent(now_us) for queue in queues.values()):
            self._rest(now_us)
            return frame_id
        waits = {name: queue.wait_us(now_us) for name, queue in queues.items()}
        frame_id = _least([[waits[name] for name in ways] for ways in of.values()], frame_id)
        for model, ways in of.items():
            time_us = max([queues[name].item_us.get(model, 0.0) for name in ways])
            taker = ways[lane_of_frame(ways, frame_id)]
            queues[taker].add(now_us, items[model] * time_us)
            if waits[taker] - min([waits[name] for name in ways]) > UNEVEN_US:
                self._astray_us[model] = now_us
        return frame_id

    def _rests(self, now_us: int) -> bool:
        return 0 < self._rest_until_us - now_us <= REST_US

    def _rest(self, now_us: int) -> None:
        self._rest_until_us = now_us + REST_US
        for queue in self._queues.values():
            queue.took(now_us, now_us)


def _least(waits: Sequence[Sequence[float]], frame_id: int) -> int:
    """The number by what waits in the executors of each model, in the order of their lanes."""
    more = [[wait - min(each) for wait in each] for each in waits]
    if max([max(each) for each in more], default=0.0) <= UNEVEN_US:
        return frame_id
    longest: list[float] = []
    for number in range(frame_id, frame_id + MAX_LOOK):
        longest.append(max([each[lane_of_frame(each, number)] for each in more]))
        if longest[-1] <= UNEVEN_US / 2:
            return number
    return frame_id + longest.index(min(longest))


def _item_us(load: VersionLoad) -> float:
    return load.per_item_us + load.fixed_us / max(1, load.max_batch_size)


def _work_us(load: VersionLoad) -> float:
    return load.running_us + sum(load.waiting_items) * _item_us(load)


def ways_of(memory: Callable[[], MemoryView], num_lanes: int, num_slow: int, first_slow: int) -> Ways:
    """By memory; the executor of a fast lane has its number, that of the first slow lane ``first_slow``.

    Models whose keys have an order choose lanes by them, so they have none here.
    """
    edge = len(lanes_of(num_lanes, num_slow, slow=False))

    def executor(lane: int) -> str:
        return f"executor-{lane if lane < edge else first_slow + lane - edge}"

    def ways(model: str) -> tuple[str, ...]:
        view = memory()
        known: dict[str, tuple[str, ...]] = derived(view, ("ways", num_lanes, num_slow, first_slow), dict)
        found = known.get(model)
        if found is None:
            effective = plan(view, model)
            lanes: tuple[int, ...] = ()
            if effective is not None and model not in ordered_models(view):
                ready = replicas(view, pool_of(effective.lane, num_lanes, num_slow))
                if ready is not None:
                    lanes = lanes_in_use(model, effective.lane, num_lanes, num_slow, ready.replicas)
            found = known[model] = tuple([executor(lane) for lane in lanes])
        return found

    return ways

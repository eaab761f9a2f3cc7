"""The calls of a client that wait for a result, and which result is whose. No I/O; one event loop.

A call is open from its slot to its result, time-out or cancellation. Its place (partition, offset) is known when the
broker acknowledges the request, and a result may be quicker than that: results on a partition with unacknowledged
requests are kept until the acknowledgement. A result is ours when place and id agree. The id matters when the requests
topic was deleted and made anew: offsets begin again then, and an answer of the old topic may come late. Its topic id
gives it away too, as soon as an offset that goes backwards has shown that there is a new topic.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

from streams.client.answer import NoResultError
from streams.errors import IsosError
from streams.ledger import source_of

SWEEP_S: Final = 0.01
"""Calls that time out within this time are ended together."""

GONE_S: Final = 600.0
"""Results of a topic that is gone are refused for this time: longer than any that may still come."""

Arrived = tuple[bytes, int]
"""Value of a result and when it was read (us since the epoch)."""


class Call:
    """One open call. ``ids``: what the record key of its result may be; None = unknown, for raw records."""

    __slots__ = ("deadline", "future", "has_slot", "ids", "lane", "name", "offset", "turn", "wait_s")

    def __init__(self, name: str, ids: tuple[bytes, ...] | None, wait_s: float, loop: asyncio.AbstractEventLoop):
        self.name = name
        self.ids = ids
        self.wait_s = wait_s
        self.deadline = loop.time() + wait_s
        self.future: asyncio.Future[Arrived] = loop.create_future()
        self.turn: asyncio.Future[None] | None = None
        self.has_slot = False
        self.lane: Lane | None = None
        self.offset = -1


@dataclass(slots=True)
class Lane:
    """Calls of one partition: by offset once acknowledged, before that only counted; results that came too early."""

    partition: int
    waiting: dict[int, Call] = field(default_factory=dict)
    early: dict[int, tuple[bytes, Any, int]] = field(default_factory=dict)
    num_unplaced: int = 0
    last_offset: int = -1


class Calls:
    """All open calls of a client; ``max_in_flight`` of them have a slot, the others wait for one in turn."""

    def __init__(self, max_in_flight: int) -> None:
        self.lanes: dict[int, Lane] = {}
        self._num_free = max_in_flight
        self._queue: deque[Call] = deque()
        self._open: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._topic_id: bytes | None = None
        self._gone_topics: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def open(self, name: str, ids: tuple[bytes, ...] | None, wait_s: float) -> Call:
        """A new call, when there is a slot for it. Raises NoResultError when there is none within ``wait_s``."""
        loop = asyncio.get_running_loop()
        call = Call(name, ids, wait_s, loop)
        self._open.add(call)
        self._arm(call.deadline)
        if self._num_free:
            self._num_free -= 1
            call.has_slot = True
            return call
        call.turn = loop.create_future()
        self._queue.append(call)
        try:
            await call.turn
            if call.future.done():  # it timed out in the queue, or the client was closed
                call.future.result()
        except BaseException:  # also a cancelled call: it must not be given a slot
            self.close(call)
            raise
        return call

    def close(self, call: Call) -> None:
        """Forget a call and give its slot on; a result that comes later is passed over. May be repeated."""
        if call not in self._open:
            return
        self._open.discard(call)
        if call.lane is not None and call.lane.waiting.get(call.offset) is call:
            del call.lane.waiting[call.offset]
        if not call.future.done():
            call.future.cancel()
        elif not call.future.cancelled():
            call.future.exception()  # marked as seen: nobody may be waiting any more
        if call.has_slot:
            self._give_slot_on()
        elif call.turn is not None and not call.turn.done():
            call.turn.set_result(None)

    def _give_slot_on(self) -> None:
        while self._queue:
            call = self._queue.popleft()
            if call in self._open and call.turn is not None and not call.turn.done():
                call.has_slot = True
                call.turn.set_result(None)
                return
        self._num_free += 1

    def lane(self, partition: int) -> Lane:
        """The calls of a partition."""
        found = self.lanes.get(partition)
        if found is None:
            found = self.lanes[partition] = Lane(partition)
        return found

    def sending(self, lane: Lane, count: int) -> None:
        """Requests are about to be written: keep results of this partition until ``placed`` or ``unplaced``."""
        lane.num_unplaced += count

    def unplaced(self, lane: Lane, calls: Sequence[Call], error: IsosError) -> None:
        """A write failed, or its outcome is unknown: its calls fail."""
        self._settled(lane, len(calls))
        for call in calls:
            self.fail(call, copy(error))

    def placed(self, lane: Lane, calls: Sequence[Call], first_offset: int) -> None:
        """Requests were written side by side from ``first_offset`` on; results that came before are handed over."""
        if first_offset <= lane.last_offset:
            self._forget_topic()
        lane.last_offset = first_offset + len(calls) - 1
        for offset, call in enumerate(calls, first_offset):
            call.lane, call.offset = lane, offset
            if call not in self._open:
                continue
            lane.waiting[offset] = call
            arrived = lane.early.pop(offset, None)
            if arrived is not None:
                topic_id, record, now_us = arrived
                self._match(call, topic_id, record, now_us)
        self._settled(lane, len(calls))

    def _settled(self, lane: Lane, count: int) -> None:
        lane.num_unplaced -= count
        if not lane.num_unplaced:
            lane.early.clear()

    def take(self, record: Any, now_us: int) -> None:
        """A record of the results topic; those of others are passed over without decoding."""
        source = source_of(record.headers)
        if source is None:
            return
        topic_id, partition, offset = source
        lane = self.lanes.get(partition)
        if lane is None:
            return
        call = lane.waiting.get(offset)
        if call is not None:
            self._match(call, topic_id, record, now_us)
        elif lane.num_unplaced:
            lane.early[offset] = (topic_id, record, now_us)

    def _match(self, call: Call, topic_id: bytes, record: Any, now_us: int) -> None:
        if not self._is_ours(call, topic_id, record.key):
            return
        if not call.future.done():
            call.future.set_result((record.value, now_us))
        self.close(call)

    def _is_ours(self, call: Call, topic_id: bytes, key: bytes | None) -> bool:
        if self._gone_topics and self._is_gone(topic_id):
            return False
        if call.ids is None:  # a raw record: only the topic can be compared
            return self._topic_id is None or topic_id == self._topic_id
        if key not in call.ids:
            return False
        if topic_id != self._topic_id:
            self._forget_topic()
            self._topic_id = topic_id
        return True

    def _is_gone(self, topic_id: bytes) -> bool:
        until = self._gone_topics.get(topic_id)
        if until is not None and until <= asyncio.get_running_loop().time():
            del self._gone_topics[topic_id]
            return False
        return until is not None

    def _forget_topic(self) -> None:
        """The requests topic is a new one: results of the old one answer nothing of ours any more."""
        if self._topic_id is None:
            return
        self._gone_topics[self._topic_id] = asyncio.get_running_loop().time() + GONE_S
        self._topic_id = None
        for lane in self.lanes.values():
            lane.last_offset = -1  # offsets begin again on every partition, and that must be noticed once only

    def fail(self, call: Call, error: IsosError) -> None:
        """End a call with an error."""
        if not call.future.done():
            call.future.set_exception(error)
        self.close(call)

    def fail_all(self, error: IsosError) -> None:
        """End every open call with an error, each with its own copy: a raised exception collects tracebacks."""
        for call in list(self._open):
            self.fail(call, copy(error))

    def shut(self, error: IsosError) -> None:
        """End every call and the timer."""
        self.fail_all(error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, deadline: float) -> None:
        # One timer for all calls: a timer per call would cost more than sending it.
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for call in [call for call in self._open if call.deadline <= now]:
            self.fail(call, NoResultError(call.name, call.wait_s))
        if self._open:
            self._arm(max(min(call.deadline for call in self._open), now + SWEEP_S))


def expected_ids(request_id: str, record_key: bytes) -> tuple[bytes, ...] | None:
    """What the key of a request's result may be; None when the server will make one up from the place.

    A request that the server cannot read is answered under its record key; an unusable id is answered under the place.
    """
    encoded = request_id.encode()
    if not (1 <= len(request_id) <= 64 and len(encoded) <= 255 and 1 <= len(record_key) <= 64):
        return None
    return (encoded,) if encoded == record_key else (encoded, record_key)

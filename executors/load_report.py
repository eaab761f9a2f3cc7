"""What an executor says of its load, for the edges' forecast: made of its queues, sent while there is something to say.

At most every ``INTERVAL_S``, and only while frames are taken or rows wait; once more when the last of them is done, so
that nobody believes in a queue that is gone. Best effort: a report that is not sent is followed by a newer one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from executors.batcher import Batcher
from executors.lines import Lines
from executors.profile import Profile, Version
from executors.row_queue import PRIORITIES
from schemas.frame import InferenceFrame
from schemas.load import ExecutorLoad, VersionLoad
from streams.codec import Codec
from streams.columns import HEDGE
from streams.topics import full_name

log = logging.getLogger(__name__)

TOPIC: Final = "control.executor-load"
INTERVAL_S: Final = 0.25
SEND_TIMEOUT_S: Final = 2.0


class Queues(Protocol):
    """The part of an intake that is told of; ``num_late``: rows that waited until it was too late for them."""

    num_late: dict[Version, int]

    @property
    def batcher(self) -> Batcher:
        """Queues of what may run."""

    @property
    def lines(self) -> Lines:
        """Rows of ordered models behind those under way."""


class LoadReport:
    """Counts what one executor takes. ``long_us``: batches of so much time and more run in threads."""

    def __init__(self, executor: str, num_threads: int, long_us: float) -> None:
        self._executor = executor
        self._num_threads = num_threads
        self._long_us = long_us
        self._newest_us = 0
        self._newest_since_us = 0
        self._num_taken: dict[Version, int] = {}
        self._said: dict[Version, int] = {}
        self._had_work = False

    def took(self, frame: InferenceFrame) -> None:
        """Count a frame that was taken off a lane; copies of rows that wait elsewhere do not count."""
        if HEDGE in frame.roles:
            return
        self._newest_since_us = max(self._newest_since_us, frame.admitted_us)
        taken = self._num_taken
        for segment in frame.segments:
            version = (segment.model, segment.version)
            taken[version] = taken.get(version, 0) + segment.num_rows

    def make(
        self, queues: Queues, profiles: Mapping[Version, Profile], running_us: Mapping[Version, float], now_us: int
    ) -> ExecutorLoad | None:
        """The report of now; None where nothing changed since the last one. ``running_us``: what is left of batches."""
        late = queues.num_late
        waiting: dict[Version, list[int]] = {}
        for version, priority, num_items in (*queues.batcher.queued(), *queues.lines.queued()):
            waiting.setdefault(version, [0] * PRIORITIES)[priority] += num_items
        named = [version for version, taken in self._num_taken.items() if taken != self._said.get(version)]
        named += [version for version in {**waiting, **running_us} if version not in named]
        had_work, self._had_work = self._had_work, bool(waiting or running_us)
        if not named and not had_work:
            return None
        self._said = self._num_taken.copy()
        # of this report's frames, not of all: a clock that was set back is believed again
        self._newest_us, self._newest_since_us = self._newest_since_us or self._newest_us, 0
        loads = [
            self._load(version, profiles[version], late, waiting.get(version, []), running_us.get(version, 0.0))
            for version in named
            if version in profiles
        ]
        return ExecutorLoad(self._executor, now_us, self._newest_us, self._num_threads, tuple(loads))

    def _load(
        self, version: Version, profile: Profile, late: Mapping[Version, int], waiting: list[int], running_us: float
    ) -> VersionLoad:
        num_items = sum(waiting)
        is_long = running_us > 0 or profile.time_us(min(max(num_items, 1), profile.cap)) >= self._long_us
        while waiting and not waiting[-1]:
            waiting.pop()
        return VersionLoad(
            *version, profile.fixed_us, profile.per_item_us, profile.cap, is_long, max(0.0, running_us),
            self._num_taken.get(version, 0), late.get(version, 0), tuple(waiting),
        )  # fmt: skip


async def send_reports(producer: AIOKafkaProducer, codec: Codec, report: Callable[[int], ExecutorLoad | None]) -> None:
    """Send what ``report`` makes at a time (microseconds since the epoch), until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        load = report(time.time_ns() // 1000)
        if load is None:
            continue
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                value, key = codec.encode(TOPIC, load), load.executor.encode()
                await producer.send_and_wait(full_name(TOPIC), value, key=key)
        except (KafkaError, TimeoutError) as error:
            log.warning("a report of the load was not sent: %s", type(error).__name__)

"""Tell a stage of the data plane what executed frames answer, beside the frames that it consumes.

The Router hears so which rows are still under way. One consumer without a group, on ``inference.executed`` of the
source partitions that this process holds, from the end of the log on; only while ``wanted``. What it misses is missed:
each run hears from when on it can rely on what it hears (``Followed``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.frame import InferenceFrame
from streams.codec import Codec
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.errors import PoisonRecordError, RetriableError
from streams.frame_effects import Answered, Followed
from streams.registry.schema_watch import SchemaWatch, decode_or_learn
from streams.takeover import HeldPartition
from streams.topics import full_name

log = logging.getLogger(__name__)

TOPIC: Final = "inference.executed"
LOOK_S: Final = 0.5
RETRY_S: Final = 1.0
FETCH_MS: Final = 100
PAUSE_S: Final = 0.008
"""Between two reads: nobody looks at what is heard more often, and a fetch costs as much as many records."""
FETCH_TIMEOUT_S: Final = 20.0
CALL_TIMEOUT_S: Final = 10.0

_Runs = dict[int, tuple[HeldPartition, int]]
"""By partition what holds it, and in its how-manieth run."""


class ExecutedNews:
    """``held``: the partitions that this process holds, as they are at each call. ``run`` goes on until cancelled."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        schemas: SchemaWatch | None,
        held: Callable[[], Iterable[HeldPartition]],
        wanted: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._schemas = schemas
        self._held = held
        self._wanted = wanted
        self._told: _Runs = {}

    async def run(self) -> None:
        """Follow whenever it is wanted; trouble with the broker ends and begins it anew."""
        while True:
            while not (self._wanted() and self._runs()):
                await asyncio.sleep(LOOK_S)
            client = consumer(self._connection)
            try:
                await start(client, f"connecting to follow {TOPIC}")
                await self._follow(client)
            except (KafkaError, RetriableError, OSError) as error:
                log.warning("following %s is interrupted, nothing is hedged meanwhile: %s", TOPIC, error)
                await asyncio.sleep(RETRY_S)
            finally:
                self._tell(Followed(on=False))
                self._told = {}
                await stop_quietly(client)

    def _runs(self) -> _Runs:
        return {held.partition: (held, held.num_runs) for held in self._held() if held.ready.is_set()}

    def _tell(self, news: Followed) -> None:
        for held, _ in self._told.values():
            held.tell(news)

    async def _follow(self, client: Any) -> None:
        while self._wanted() and (runs := self._runs()):
            if runs != self._told:
                await self._begin(client, runs)
            got = await bounded(client.getmany(timeout_ms=FETCH_MS), FETCH_TIMEOUT_S, f"fetching {TOPIC}")
            for place, records in got.items():
                for record in records:
                    await self._hand_on(self._told[place.partition][0], record.value)
            await asyncio.sleep(PAUSE_S)

    async def _begin(self, client: Any, runs: _Runs) -> None:
        """Read from the ends of the logs of ``runs``; then, and not before, all of them can rely on what they hear."""
        places = {TopicPartition(full_name(TOPIC), partition): each for partition, each in runs.items()}
        ends = await bounded(client.end_offsets(list(places)), CALL_TIMEOUT_S, f"asking for the end of {TOPIC}")
        client.assign(list(places))
        for place in places:
            client.seek(place, ends[place])
        self._told = runs
        self._tell(Followed(on=True))

    async def _hand_on(self, held: HeldPartition, value: bytes | None) -> None:
        try:
            frame: InferenceFrame = await decode_or_learn(self._codec, self._schemas, TOPIC, value)
        except PoisonRecordError:
            return  # the Validator keeps it as a dead letter
        num_rows, view = len(frame.statuses), np.frombuffer
        if len(frame.offsets) != 8 * num_rows or len(frame.roles) != num_rows:
            return  # and so is this
        executor = next((segment.executor for segment in frame.segments if segment.executor), "")
        held.tell(Answered(view(frame.offsets, "<i8"), view(frame.statuses, "|u1"), view(frame.roles, "|u1"), executor))

"""Keeps a codec current: follows ``_schemas`` in the background, and asks at once when a value's schema is unknown.

What is registered while a process runs reaches its codec within a fetch. A value may be quicker, so whoever meets
``unknown_schema`` calls ``learn`` before it gives the value up. That costs a question to the broker, and anybody can
write random ids: questions are limited per second, more strictly for ids far from those in use, and an id that stayed
unknown is not asked for again for some seconds. A value whose schema is known costs nothing of this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from streams.codec import MAGIC, PREFIX_BYTES, Codec, SchemaIds, schema_id_of
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.registry.schema_follower import START_S, SchemaFollower
from streams.registry.schema_log import SchemaLog, schema_ids

log = logging.getLogger(__name__)

QUESTIONS_PER_S: Final = 10.0
FAR_QUESTIONS_PER_S: Final = 2.0
NEAR_IDS: Final = 1_000
"""Ids up to this far above the highest one in use count as near: registries hand ids out densely."""
UNKNOWN_S: Final = 5.0
LOOKED_FOR: Final = "looked for schema"
MAX_UNKNOWN: Final = 1_024

Clock = Callable[[], float]


class RateLimit:
    """Token bucket: ``rate_per_s`` on average, one second's worth at once."""

    def __init__(self, rate_per_s: float, clock: Clock) -> None:
        self._rate = rate_per_s
        self._clock = clock
        self._tokens = rate_per_s
        self._at = clock()

    def take(self) -> bool:
        """Take a token if there is one."""
        now = self._clock()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class UnknownIds:
    """Ids that were asked for in vain, each for ``UNKNOWN_S``; the oldest go first when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, schema_id: int) -> bool:
        until = self._until.get(schema_id)
        if until is not None and until <= self._clock():
            del self._until[schema_id]
            return False
        return until is not None

    def add(self, schema_id: int) -> None:
        """Remember an id."""
        self._until.pop(schema_id, None)
        while len(self._until) >= MAX_UNKNOWN:
            del self._until[next(iter(self._until))]
        self._until[schema_id] = self._clock() + UNKNOWN_S

    def clear(self) -> None:
        """Forget all: something was registered."""
        self._until.clear()


class SchemaWatch:
    """Follows the schema log for one codec. ``num_questions`` counts what ``learn`` asked of the broker."""

    def __init__(self, connection: Connection, codec: Codec, *, clock: Clock = time.monotonic) -> None:
        self.codec = codec
        self.num_questions = 0
        self._follower = SchemaFollower(connection, self._refresh)
        self._unknown = UnknownIds(clock)
        self._any, self._far = RateLimit(QUESTIONS_PER_S, clock), RateLimit(FAR_QUESTIONS_PER_S, clock)

    @classmethod
    async def open(cls, connection: Connection, timeout_s: float = START_S) -> SchemaWatch:
        """A started watch over a new codec, which holds everything registered so far. Raises RetriableError."""
        watch = cls(connection, Codec(SchemaIds({}, {})))
        try:
            await watch.start(timeout_s)
        except BaseException:  # also a cancelled start: no client is left behind
            await watch.stop()
            raise
        return watch

    @property
    def schemas(self) -> SchemaLog:
        """What is registered, as of a moment ago."""
        return self._follower.log

    async def start(self, timeout_s: float = START_S) -> None:
        """Start following; the codec is current when this returns. Raises WatchTimeoutError."""
        await self._follower.start(timeout_s)

    async def stop(self) -> None:
        """Stop following."""
        await self._follower.stop()

    async def learn(self, schema_id: int, *, surely: bool = False) -> bool:
        """Whether the codec reads more than before, after a look at what is registered now.

        False at once for an id that was unknown a moment ago or when the limit is reached; ``surely`` passes over both,
        for logs that only processes of ours write. Raises RetriableError when the broker does not say.
        """
        if not surely and (schema_id in self._unknown or not self._may_ask(schema_id)):
            return False
        before = self.codec.ids
        self.num_questions += 1
        await self.catch_up()
        learnt = self.codec.ids is not before
        log.info("%s %d: %s", LOOKED_FOR, schema_id, "something new is registered" if learnt else "it is unknown")
        if not learnt:
            self._unknown.add(schema_id)
        return learnt

    async def catch_up(self) -> None:
        """Fold everything that is registered as of now. Raises RetriableError."""
        await self._follower.catch_up()

    async def prepare(self, topic: str, value: bytes | None, *, surely: bool = False) -> None:
        """Learn the schema of a value of ``topic`` (short name) that is to be decoded later, if it is not known."""
        if value is not None and not self.codec.knows(topic, value) and is_prefixed(value):
            await self.learn(schema_id_of(value), surely=surely)

    def _may_ask(self, schema_id: int) -> bool:
        far = schema_id > self.schemas.next_id + NEAR_IDS
        return self._far.take() and self._any.take() if far else self._any.take()

    def _refresh(self, schemas: SchemaLog) -> None:
        ids = schema_ids(schemas)
        if ids != self.codec.ids:
            self.codec.refresh(ids)
            self._unknown.clear()
            log.info("schemas up to id %d are known", schemas.next_id - 1)


def is_prefixed(value: bytes) -> bool:
    """Whether a value begins as every value of ours does."""
    return len(value) >= PREFIX_BYTES and value[:1] == MAGIC


async def decode_or_learn(codec: Codec, watch: SchemaWatch | None, topic: str, value: bytes | None) -> Any:
    """Record of a value, its schema looked for first when it is unknown. Raises PoisonRecordError, RetriableError."""
    try:
        return codec.decode(topic, value)
    except PoisonRecordError as error:
        unknown = error.code == "unknown_schema" and value is not None and watch is not None
        if not unknown or not await watch.learn(schema_id_of(value)):  # type: ignore[union-attr, arg-type]
            raise
    return codec.decode(topic, value)

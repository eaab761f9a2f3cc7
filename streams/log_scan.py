"""A partition's records handed over piece by piece, as of now, so that no reader has to hold a topic.

Every wait has a bound, and progress is told in offsets. ``LogScan`` is one consumer for any number of scans, outside
any group.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.marker_fetch import deliver_markers
from streams.topics import MIB

ASK_TIMEOUT_S: Final = 15.0
STALL_TIMEOUT_S: Final = 30.0
POLL_MS: Final = 500
MAX_RECORDS: Final = 1_000

Take = Callable[[Any], bool]
"""Takes a record (or a marker); False ends the scan."""

Step = Callable[[int], None]
"""Called with the offset that was reached."""


class LogScan:
    """A connected reader. ``async with LogScan(connection) as scan``; everything raises RetriableError.

    ``markers``: transaction markers are handed over too, as ``streams.marker_fetch.Marker``.
    """

    def __init__(self, connection: Connection, *, markers: bool = False) -> None:
        self._connection = connection
        self._markers = markers
        self._client: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        """Connect."""
        # With markers every record is checked by hash: a checksum that is wrong must not end the reading before that.
        checks = {"check_crcs": False} if self._markers else {}
        client = consumer(self._connection, max_partition_fetch_bytes=MIB, **checks)
        await start(client, "connecting to read the log")
        if self._markers:
            deliver_markers(client)
        self._client = client
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await stop_quietly(client)

    async def bounds(self, place: TopicPartition) -> tuple[int, int]:
        """First offset, and the offset behind the last."""
        first = await self._ask(
            self._turned_to(place).beginning_offsets([place]), f"finding the start of {name(place)}"
        )
        end = await self._ask(self._turned_to(place).end_offsets([place]), f"finding the end of {name(place)}")
        return int(first[place]), int(end[place])

    async def at_time(self, place: TopicPartition, time_ms: int) -> int | None:
        """Offset of the first record stamped at or after ``time_ms``; None where there is none."""
        asked = self._turned_to(place).offsets_for_times({place: max(0, time_ms)})
        found = (await self._ask(asked, f"finding a time in {name(place)}"))[place]
        return None if found is None else int(found.offset)

    async def scan(self, place: TopicPartition, first: int, end: int, take: Take, step: Step | None = None) -> None:
        """Hand over what stands on ``[first, end)``, which must lie within the bounds, in order."""
        if first >= end:
            return
        client = self._turned_to(place)
        client.seek(place, first)
        heard, position = time.monotonic(), first
        while position < end:
            fetched = await self._ask(
                client.getmany(place, timeout_ms=POLL_MS, max_records=MAX_RECORDS),
                f"reading {name(place)}",
                STALL_TIMEOUT_S,
            )
            if not _taken(fetched.get(place, ()), end, take):
                return
            before = position
            position = await self._ask(client.position(place), f"reading {name(place)}")
            if step is not None:
                step(min(position, end))
            if position > before:
                heard = time.monotonic()
            elif time.monotonic() - heard > STALL_TIMEOUT_S:
                raise UnreachableError(f"reading {name(place)}", f"nothing arrived for {STALL_TIMEOUT_S:g} s")

    def _turned_to(self, place: TopicPartition) -> AIOKafkaConsumer:
        if self._client is None:
            raise UnreachableError("reading the log", "it is not open")
        if self._client.assignment() != {place}:
            self._client.assign([place])
        return self._client

    async def _ask(self, asked: Awaitable[Any], what: str, seconds: float = ASK_TIMEOUT_S) -> Any:
        try:
            return await bounded(asked, seconds, what)
        except KafkaError as error:
            raise UnreachableError(what, str(error) or type(error).__name__) from error


def name(place: TopicPartition) -> str:
    """A partition as people write it."""
    return f"{place.topic}-{place.partition}"


def _taken(records: Sequence[Any], end: int, take: Take) -> bool:
    """Hand over what stands before ``end``; False when the scan is to end."""
    return all(take(record) for record in records if record.offset < end)

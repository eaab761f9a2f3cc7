"""One partition as a log: claim it, read it to its end, append. The real supplier on Kafka; tests have one in memory.

Single-writer stores (journal, memory) are written against this. The rule is the fenced writer's: claim first, then read
to the end, then write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.fenced import FencedWriter

READ_TIMEOUT_S: Final = 60.0
CALL_TIMEOUT_S: Final = 10.0
FETCH_MS: Final = 200

Headers = Sequence[tuple[str, bytes]]
Outgoing = tuple[bytes | None, bytes | None, Headers]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as it stands in a partition; ``timestamp_ms`` is the broker's or the writer's."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0


class LogWriter(Protocol):
    """Sole writer of a partition; broken after any error."""

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Append one record and return its offset. Raises FencedError or another RetriableError."""

    async def submit(self, records: Sequence[Outgoing]) -> Any:
        """Hand records over in order; ``confirm`` waits for them."""

    async def confirm(self, submission: Any) -> tuple[int, int]:
        """Wait until what was submitted is written; returns the first offset and the one behind the last."""

    async def stop(self) -> None:
        """Release the client."""


class PartitionLog(Protocol):
    """Supplier of partitions as logs."""

    async def claim(self, topic: str, partition: int) -> LogWriter:
        """Shut every earlier writer out and return the new one."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset, and the offset behind the last."""

    async def read(self, topic: str, partition: int, first: int = 0) -> list[LogRecord]:
        """All records from ``first`` (or the log's start, if that is later) to the end at the time of the call."""


class KafkaLog:
    """Partitions of a broker."""

    def __init__(self, connection: Connection, *, fence: bool = True) -> None:
        self._connection = connection
        self._fence = fence

    async def claim(self, topic: str, partition: int) -> LogWriter:
        """Claim through the fenced writer."""
        try:
            return await FencedWriter.claim(self._connection, topic, partition, fence=self._fence)
        except KafkaError as error:
            raise UnreachableError(f"claiming {topic}-{partition}", type(error).__name__) from error

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Ask the broker."""
        client = consumer(self._connection)
        place = TopicPartition(topic, partition)
        try:
            await start(client, f"connecting to read {topic}")
            client.assign([place])
            return await _bounds(client, place)
        except KafkaError as error:
            raise UnreachableError(f"reading the bounds of {topic}-{partition}", type(error).__name__) from error
        finally:
            await stop_quietly(client)

    async def read(self, topic: str, partition: int, first: int = 0) -> list[LogRecord]:
        """Read with a consumer outside any group."""
        client = consumer(self._connection)
        place = TopicPartition(topic, partition)
        try:
            await start(client, f"connecting to read {topic}")
            return await bounded(_read(client, place, first), READ_TIMEOUT_S, f"reading {topic}-{partition}")
        except KafkaError as error:
            raise UnreachableError(f"reading {topic}-{partition}", type(error).__name__) from error
        finally:
            await stop_quietly(client)


def log_record(raw: Any) -> LogRecord:
    """Our record of a client's."""
    return LogRecord(raw.offset, raw.key, raw.value, tuple(raw.headers), raw.timestamp)


async def _bounds(client: Any, place: TopicPartition) -> tuple[int, int]:
    what = f"asking for the bounds of {place.topic}-{place.partition}"
    first = await bounded(client.beginning_offsets([place]), CALL_TIMEOUT_S, what)
    last = await bounded(client.end_offsets([place]), CALL_TIMEOUT_S, what)
    return int(first[place]), int(last[place])


async def _read(client: Any, place: TopicPartition, first: int) -> list[LogRecord]:
    client.assign([place])
    begin, end = await _bounds(client, place)
    client.seek(place, min(max(begin, first), end))
    records: list[LogRecord] = []
    # The log may end in a claim's marker, which is no record: only the position says that the end was reached.
    while await client.position(place) < end:
        for batch in (await client.getmany(place, timeout_ms=FETCH_MS)).values():
            records.extend(log_record(raw) for raw in batch if raw.offset < end)
    return records

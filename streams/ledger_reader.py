"""Read the two ends of the data plane, requests and results, and close the account: the I/O around ``streams.ledger``.

Requests are read to their end first, then results to theirs, so that an answer cannot be missed for having arrived in
between. Both are read committed: what a producer aborted is no request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.errors import IsosError
from streams.ledger import LedgerFold, Report
from streams.topics import MIB

ASK_TIMEOUT_S: Final = 15.0
STALL_TIMEOUT_S: Final = 30.0
POLL_MS: Final = 1_000
MAX_RECORDS: Final = 5_000

Progress = Callable[[str, int, int], None]
"""Called with a topic's name, how many offsets of it were read and how many there are."""


Take = Callable[[Iterable[Any]], None]


class UnknownTopicError(IsosError):
    """A topic that should be audited does not exist on the broker."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return f"topic {self.topic} does not exist on the broker"


def silent(topic: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


async def read_report(
    connection: Connection,
    topic_id: bytes,
    topics: tuple[str, str],
    *,
    max_age_ms: int,
    progress: Progress = silent,
) -> Report:
    """Report over ``topics``, the full names of (requests, results), as of now.

    ``topic_id``: the id that results name as their source. ``max_age_ms``: an open request up to this age is in flight.
    Raises UnknownTopicError, UnreachableError, TimedOutError.
    """
    requests, results = topics
    ledger = LedgerFold(topic_id)

    def request(records: Iterable[Any]) -> None:
        for record in records:
            ledger.add_request(record.partition, record.offset, record.timestamp)

    def result(records: Iterable[Any]) -> None:
        for record in records:
            ledger.add_result(record.headers)

    for partition in await _read_topic(connection, requests, request, progress):
        ledger.add_partition(partition)
    now_ms = time.time_ns() // 1_000_000
    await _read_topic(connection, results, result, progress)
    return ledger.report(now_ms=now_ms, max_age_ms=max_age_ms)


async def _read_topic(connection: Connection, topic: str, take: Take, progress: Progress) -> list[int]:
    """Hand over every record between the start and the end of now; the topic's partitions."""
    client = consumer(
        connection,
        topic,
        isolation_level="read_committed",
        max_poll_records=MAX_RECORDS,
        max_partition_fetch_bytes=8 * MIB,
    )
    try:
        await start(client, f"connecting to read {topic}")
    except UnreachableError as error:
        if isinstance(error.__cause__, UnknownTopicOrPartitionError):
            raise UnknownTopicError(topic) from error
        raise
    try:
        await _read_to_end(client, topic, take, progress)
        return sorted(place.partition for place in client.assignment())
    except KafkaError as error:
        raise UnreachableError(f"reading {topic}", str(error) or type(error).__name__) from error
    finally:
        await stop_quietly(client)


async def _read_to_end(client: Any, topic: str, take: Take, progress: Progress) -> None:
    places = sorted(client.assignment())
    first = await bounded(client.beginning_offsets(places), ASK_TIMEOUT_S, "asking for the start")
    ends = await bounded(client.end_offsets(places), ASK_TIMEOUT_S, "asking for the end")
    for place in places:
        client.seek(place, first[place])
    total = sum(ends[place] - first[place] for place in places)
    heard = time.monotonic()
    while True:
        # The position is compared, not the last record's offset: a log may end in a marker that no reader sees.
        positions = {place: await client.position(place) for place in places}
        left = [place for place in places if positions[place] < ends[place]]
        progress(topic, total - sum(ends[place] - positions[place] for place in left), total)
        if not left:
            return
        client.pause(*(place for place in places if place not in left))
        batches = await bounded(client.getmany(*left, timeout_ms=POLL_MS), STALL_TIMEOUT_S, f"reading {topic}")
        for place, records in batches.items():
            take([record for record in records if record.offset < ends[place]])
        now = time.monotonic()
        heard = now if batches else heard
        if now - heard > STALL_TIMEOUT_S:
            raise UnreachableError(f"reading {topic}", f"no record arrived for {STALL_TIMEOUT_S:g} s")

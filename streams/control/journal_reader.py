"""Read an agent's journal in portions, from a time or from its start, without holding it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.control.tenure import TAIL, JournalPlace
from streams.topics import MIB

ASK_TIMEOUT_S: Final = 15.0
STALL_TIMEOUT_S: Final = 30.0
POLL_MS: Final = 1_000
MAX_RECORDS: Final = 2_000

Take = Callable[[Sequence[Any]], bool]
"""Called with records as they come; False ends the reading."""


def replay_codec(ids: SchemaIds) -> Codec:
    """A codec that reads what is registered, and writes also what is not: what is compared is not sent anywhere."""
    ours = SchemaIds.local(max(ids.by_id, default=0) + 1)
    missing = {subject: own for subject, own in ours.write_ids.items() if subject not in ids.write_ids}
    extra = {own: ours.by_id[own] for own in missing.values()}
    return Codec(SchemaIds({**ids.write_ids, **missing}, {**ids.by_id, **extra}))


async def read_journal(
    connection: Connection,
    place: JournalPlace,
    take: Take,
    *,
    since_ms: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Hand over all records up to the end of now; whether they begin behind the first one that is kept.

    ``since_ms``: begin so far before the first record of that time that a snapshot lies in between (one is at least
    every ``TAIL`` offsets); None: at the first record. Raises UnreachableError, TimedOutError.
    """
    client = consumer(connection, max_partition_fetch_bytes=8 * MIB)
    partition = TopicPartition(place.topic, place.partition)
    try:
        await start(client, f"connecting to read {place.topic}")
        return await _read(client, partition, take, since_ms, progress)
    except KafkaError as error:
        raise UnreachableError(f"reading {place.topic}", str(error) or type(error).__name__) from error
    finally:
        await stop_quietly(client)


async def _read(
    client: Any, place: TopicPartition, take: Take, since_ms: int | None, progress: Callable[[int, int], None]
) -> bool:
    client.assign([place])
    what = f"asking for the bounds of {place.topic}-{place.partition}"
    begin: int = (await bounded(client.beginning_offsets([place]), ASK_TIMEOUT_S, what))[place]
    end: int = (await bounded(client.end_offsets([place]), ASK_TIMEOUT_S, what))[place]
    first = begin
    if since_ms is not None:
        found = (await bounded(client.offsets_for_times({place: since_ms}), ASK_TIMEOUT_S, what))[place]
        first = max(begin, (end if found is None else found.offset) - TAIL)
    client.seek(place, first)
    heard = time.monotonic()
    # The log may end in a claim's marker, which is no record: only the position says that the end was reached.
    while (position := await client.position(place)) < end:
        progress(position - first, end - first)
        fetch = client.getmany(place, timeout_ms=POLL_MS, max_records=MAX_RECORDS)
        batches = await bounded(fetch, STALL_TIMEOUT_S, f"reading {place.topic}")
        for records in batches.values():
            if not take([record for record in records if record.offset < end]):
                return first > begin
        now = time.monotonic()
        heard = now if batches or await client.position(place) > position else heard
        if now - heard > STALL_TIMEOUT_S:
            raise UnreachableError(f"reading {place.topic}", f"no record arrived for {STALL_TIMEOUT_S:g} s")
    progress(end - first, end - first)
    return first > begin

"""What stands on a topic as bytes: the schema ids in the prefixes of its values."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from streams.codec import schema_id_of
from streams.connection import Connection, bounded, consumer, start, stop_quietly

READ_S = 60.0


def schema_ids_on(bootstrap: str, topic: str) -> set[int]:
    """Schema ids of every value on a topic (full name) up to its present end."""
    return asyncio.run(_read(Connection(bootstrap), topic))


async def _read(connection: Connection, topic: str) -> set[int]:
    client = consumer(connection, topic, isolation_level="read_committed")
    found: set[int] = set()
    await start(client, f"reading {topic}")
    try:
        places: list[TopicPartition] = sorted(client.assignment())
        ends = await client.end_offsets(places)
        while any([await client.position(place) < ends[place] for place in places]):
            batches = await bounded(client.getmany(timeout_ms=500), READ_S, f"reading {topic}")
            found |= {schema_id_of(each.value) for batch in batches.values() for each in batch if each.value}
    finally:
        await stop_quietly(client)
    return found

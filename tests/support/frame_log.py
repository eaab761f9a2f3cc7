"""What stands on a topic of frames, read from its start."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.frame import InferenceFrame
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.provision import topic_partitions
from streams.registry.schema_watch import SchemaWatch
from streams.topics import full_name


async def ends_of(reader: AIOKafkaConsumer, connection: Connection, topic: str) -> dict[int, int]:
    """The next offset of each partition of a topic (short name)."""
    count = (await topic_partitions(connection, [topic]))[topic]
    ends = await reader.end_offsets([TopicPartition(full_name(topic), number) for number in range(count)])
    return {place.partition: end for place, end in ends.items()}


async def frames_of(connection: Connection, topic: str) -> list[InferenceFrame]:
    """Every frame of a topic (short name) up to its present end, partition by partition."""
    schemas = await SchemaWatch.open(connection)
    reader = consumer(connection, auto_offset_reset="earliest")
    await start(reader, f"reading {topic}")
    found: list[InferenceFrame] = []
    try:
        count = (await topic_partitions(connection, [topic]))[topic]
        for number in range(count):
            place = TopicPartition(full_name(topic), number)
            reader.assign([place])
            end = (await reader.end_offsets([place]))[place]
            await reader.seek_to_beginning(place)
            while await reader.position(place) < end:
                for record in (await bounded(reader.getmany(place, timeout_ms=500), 10.0, topic)).get(place, ()):
                    found.append(schemas.codec.decode(topic, record.value))
        return found
    finally:
        await stop_quietly(reader)
        await schemas.stop()

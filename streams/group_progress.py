"""How far a consumer group is behind: has it committed everything that stood in its topic at a given moment?

Asked of the broker, not of the group's members, so that an operator's command can wait for a process it did not start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, TimedOutError, UnreachableError, bounded, consumer, start, stop_quietly
from streams.provision import topic_partitions
from streams.topics import full_name

CALL_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 0.1
PROBE_MS: Final = 300


async def wait_caught_up(
    connection: Connection, group: str, topic: str, timeout_s: float, mine: Callable[[int], range] = range
) -> float:
    """Wait until ``group`` has committed ``topic`` (short name) up to its present end; the seconds that it took.

    ``mine``: the partitions that the group reads, of a number of them.

    What stands behind the last commit and holds no record (markers, aborted records) counts as committed. Raises
    TimedOutError after ``timeout_s``, UnreachableError when the broker does not answer.
    """
    begun = time.monotonic()
    client = consumer(connection, group_id=group, isolation_level="read_committed")
    await start(client, f"asking for the progress of {group}")
    try:
        open_ends = await _ends(connection, client, topic, mine)
        while open_ends:
            for place, end in tuple(open_ends.items()):
                if await bounded(_is_done(client, place, end), CALL_TIMEOUT_S, f"asking for the offsets of {group}"):
                    del open_ends[place]
            if not open_ends:
                break
            if time.monotonic() - begun > timeout_s:
                raise TimedOutError(f"committing what stands in {topic}, by {group},", timeout_s)
            await asyncio.sleep(LOOK_S)
    except KafkaError as error:
        raise UnreachableError(f"asking for the progress of {group}", str(error) or type(error).__name__) from error
    finally:
        await stop_quietly(client)
    return time.monotonic() - begun


async def _ends(
    connection: Connection, client: Any, topic: str, mine: Callable[[int], range]
) -> dict[TopicPartition, int]:
    count = (await topic_partitions(connection, [topic])).get(topic, 0)
    places = [TopicPartition(full_name(topic), number) for number in mine(count)]
    ends = await bounded(client.end_offsets(places), CALL_TIMEOUT_S, f"asking for the ends of {topic}")
    return {place: int(end) for place, end in ends.items() if end > 0}


async def _is_done(client: Any, place: TopicPartition, end: int) -> bool:
    committed = await client.committed(place)
    begin = int((await client.beginning_offsets([place]))[place])
    at = begin if committed is None else max(int(committed), begin)
    return at >= end or await _holds_no_record(client, place, at, end)


async def _holds_no_record(client: Any, place: TopicPartition, first: int, end: int) -> bool:
    """Whether no reader would be given anything between ``first`` and ``end``."""
    client.assign([place])
    client.seek(place, first)
    got = await client.getmany(place, timeout_ms=PROBE_MS, max_records=1)
    if any(record.offset < end for record in got.get(place, ())):
        return False
    return bool(got.get(place)) or int(await client.position(place)) >= end

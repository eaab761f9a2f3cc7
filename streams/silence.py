"""Notices a consumer that has gone silent: records wait in its partitions and none arrives, yet its process lives.

One cause in Faust was found and is gone (``streams.faust_app``: a standstill during a rebalance); upstream knows of
others, and a restart is the remedy.
Silence is counted in looks, not in seconds, so that a process that was frozen is not taken for a silent one when it
wakes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.errors import RetriableError

LOOK_S: Final = 1.0
LOOKS: Final = 8
CALL_TIMEOUT_S: Final = 10.0


class Fed(Protocol):
    """One held partition: what was handed over to it last (-1: nothing yet)."""

    topic: str
    partition: int
    fed_offset: int


@dataclass(eq=False, slots=True)
class FedPartition:
    """A partition and the offset that was handed over last; -1: none yet."""

    topic: str
    partition: int
    fed_offset: int = -1


class SilentConsumerError(RetriableError):
    """Records wait on ``place`` and none has arrived for ``seconds`` in which it was looked."""

    def __init__(self, place: str, seconds: float) -> None:
        super().__init__(place, seconds)
        self.place = place
        self.seconds = seconds

    def __str__(self) -> str:
        what = "records wait on {} and none has arrived for {:g} s: the consumer has gone silent"
        return what.format(self.place, self.seconds)


class SilenceCount:
    """Pure: counts looks at which a partition had records waiting and had been handed none since the look before."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], tuple[Fed, int, int]] = {}

    def look(self, held: Fed, end: int, committed: int) -> int:
        """Silent looks in a row; ``end`` is the log's end, ``committed`` where reading began when nothing was fed."""
        key = (held.topic, held.partition)
        before = self._last.get(key)
        position = held.fed_offset + 1 if held.fed_offset >= 0 else committed
        same = before is not None and before[0] is held and before[1] == held.fed_offset
        count = before[2] + 1 if before is not None and same and position < end else 0
        self._last[key] = (held, held.fed_offset, count)
        return count


async def watch_for_silence(
    connection: Connection, group: str, held: Callable[[], Iterable[Fed]], look_s: float = LOOK_S
) -> None:
    """Look every ``look_s`` seconds until cancelled; ``held`` gives the partitions held now.

    Raises SilentConsumerError.
    """
    client = consumer(connection, group_id=group)
    counts = SilenceCount()
    await start(client, f"starting the watch over {group}")
    try:
        while True:
            await asyncio.sleep(look_s)
            for each in tuple(held()):
                try:
                    end, committed = await bounded(_ends(client, each), CALL_TIMEOUT_S, "asking for offsets")
                except (KafkaError, RetriableError):
                    continue  # a broker that does not answer is no silence of ours
                if counts.look(each, end, committed) >= LOOKS:
                    raise SilentConsumerError(f"{each.topic}-{each.partition}", LOOKS * look_s)
    finally:
        await stop_quietly(client)


async def _ends(client: AIOKafkaConsumer, held: Fed) -> tuple[int, int]:
    place = TopicPartition(held.topic, held.partition)
    end = int((await client.end_offsets([place]))[place])
    if held.fed_offset >= 0:
        return end, 0
    committed = await client.committed(place)
    begin = int((await client.beginning_offsets([place]))[place]) if committed is None else int(committed)
    return end, begin

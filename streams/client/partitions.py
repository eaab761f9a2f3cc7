"""Which partition a request goes to: a few chosen at random for most, the key's for those with a routing key.

A result stands on the partition of its request, so whoever writes to few partitions reads few. A new partition is used
when both topics have it. Keys are placed as Java's clients place them (murmur2).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

from streams.client.results import Results

LOOK_S: Final = 5.0
"""Time between two looks at the number of partitions; the metadata that is looked at is older still."""

_POSITIVE: Final = 0x7FFFFFFF


@lru_cache(4096)
def _hash(key: str) -> int:
    return int(murmur2(key.encode())) & _POSITIVE


class Partitions:
    """Chooses partitions, and has their results read before anything is sent there.

    ``count`` asks how many partitions both topics have; ``num_chosen`` of them take the requests without a key.
    """

    def __init__(self, count: Callable[[], Awaitable[int]], results: Results, num_chosen: int) -> None:
        self._count = count
        self._results = results
        self._num_chosen = num_chosen
        self._turn: Iterator[int] = iter(())
        self._look_at = 0.0
        self.num = 0

    async def start(self) -> None:
        """Choose, and read the results of what was chosen. Raises RetriableError."""
        await self.look()
        for _ in range(self._num_chosen):
            await self.prepare(next(self._turn))

    @property
    def is_due(self) -> bool:
        """Whether it is time for a look at the number of partitions."""
        return time.monotonic() >= self._look_at

    async def look(self) -> None:
        """Learn how many partitions there are; the choice is kept as long as it can be."""
        self._look_at = time.monotonic() + LOOK_S  # before the wait: one call looks, the others go on
        before, self.num = self.num, await self._count()
        if self.num < before or not before:
            chosen = random.sample(range(self.num), min(self._num_chosen, self.num))
            self._turn = itertools.cycle(chosen)

    def choose(self, routing_key: str | None) -> int:
        """Partition of the next request."""
        return next(self._turn) if routing_key is None else _hash(routing_key) % self.num

    def is_ready(self, partition: int) -> bool:
        """Whether a request may be sent there at once."""
        return self._results.reads(partition)

    async def prepare(self, partition: int) -> None:
        """Read the partition's results. Raises RetriableError."""
        await self._results.read(partition)

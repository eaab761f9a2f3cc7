"""A consumer group's member whose offsets are committed only behind what was made of them: at least once.

For the loops that are no Faust agents (edge, executor). Per assigned partition and generation a ``Progress`` holds what
was begun, in order; an entry is finished when every record that was sent for it is acknowledged, and the offset behind
the finished entries at the front is committed. A rebalance voids everything: whoever owns the partition next reads
again from the committed offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import UnreachableError, bounded
from streams.errors import RetriableError
from streams.ordering import Entry, InOrder

log = logging.getLogger(__name__)

COMMIT_TIMEOUT_S: Final = 5.0
START_OF_S: Final = 10.0
DRAIN_LOOK_S: Final = 0.01
REFUSALS: Final = 2
AGAIN: Final = 10
"""Of so many commits one is of everything that is finished, committed before or not."""


@dataclass(eq=False, slots=True)
class Progress:
    """One partition in one generation: what is under way, and the offset to commit (-1: none yet)."""

    place: TopicPartition
    generation: int
    window: InOrder[int] = field(default_factory=InOrder)
    committable: int = -1

    def finish(self, entry: Entry[int]) -> None:
        """Finish one part of an entry."""
        for end in self.window.finish(entry):
            self.committable = max(self.committable, end)


Holder = tuple[Progress, Entry[int]]
"""Who waits for a sent record: one part of an entry."""


class CommittedConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Assignment, sends and commits of one process. ``generation`` counts rebalances.

    ``ask`` is called before each read, for consumers that fetch on demand (``column_fetch``), ``on_assigned`` with each
    assignment, before anything of it is read, with this member's id in the group.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self.consumer = consumer
        self.topic = topic
        self.generation = 0
        self.in_flight = 0
        self.joined = asyncio.Event()
        self.ask: Callable[[], None] = _nothing
        self.on_assigned: Callable[[str], None] | None = None
        self.partitions: dict[TopicPartition, Progress] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._failure: BaseException | None = None
        self._draining = False
        self._reads_refused = 0
        self._num_commits = 0

    def subscribe(self) -> None:
        """Join the group."""
        self.consumer.subscribe([self.topic], listener=self)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget what is under way: another process reads it again from the committed offset."""
        self.generation += 1
        self.partitions = {}

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Begin anew at the committed offsets."""
        await self.on_partitions_revoked(assigned)
        self._committed = {}
        if self.on_assigned is not None:
            self.on_assigned(self.consumer._coordinator.member_id)  # aiokafka 0.14.0 says it nowhere else
        self.joined.set()
        log.info("assigned %s", sorted(each.partition for each in assigned))

    async def start_of(self, place: TopicPartition) -> int:
        """Where the group reads on: the committed offset, else the log's start. Raises RetriableError."""
        try:
            committed = await bounded(self.consumer.committed(place), START_OF_S, "asking for the committed offset")
            if committed is None:
                asked = self.consumer.beginning_offsets([place])
                committed = (await bounded(asked, START_OF_S, "asking for the log's start"))[place]
        except KafkaError as error:
            raise UnreachableError("asking where to begin", str(error) or type(error).__name__) from error
        return int(committed)

    def progress(self, place: TopicPartition) -> Progress:
        """The partition's progress in this generation."""
        found = self.partitions.get(place)
        if found is None:
            found = self.partitions[place] = Progress(place, self.generation)
        return found

    def is_current(self, progress: Progress) -> bool:
        """Whether the progress belongs to this generation; what does not is read again and must not be sent."""
        return progress.generation == self.generation

    async def send(
        self, producer: AIOKafkaProducer, topic: str, value: bytes, partition: int, holders: Iterable[Holder]
    ) -> None:
        """Send a record; each holder's entry gets one part more, finished when the broker has acknowledged.

        Raises RetriableError when the record is refused at once; a later failure is raised by ``check``.
        """
        waiting = tuple(holders)
        for progress, entry in waiting:
            progress.window.add(entry)
        self.in_flight += 1
        try:
            future = await producer.send(topic, value, partition=partition)
        except KafkaError as error:
            raise RetriableError(f"sending to {topic} failed: {error}") from error
        future.add_done_callback(lambda done: self._sent(done, waiting))

    def _sent(self, done: asyncio.Future[Any], holders: tuple[Holder, ...]) -> None:
        self.in_flight -= 1
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self.fail(error)
            return
        for progress, entry in holders:
            progress.finish(entry)

    def fail(self, error: BaseException) -> None:
        """Note that something's fate is unknown: ``check`` raises, and the process starts anew."""
        self._failure = self._failure or error

    @property
    def failed(self) -> bool:
        """Whether ``check`` would raise."""
        return self._failure is not None

    def check(self) -> None:
        """Raise what failed since the start: RetriableError where the broker did, a defect of ours as it is."""
        if isinstance(self._failure, KafkaError | OSError | TimeoutError | asyncio.CancelledError):
            raise RetriableError(f"a record could not be sent: {self._failure!r}") from self._failure
        if self._failure is not None:
            raise self._failure

    async def read(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        """What is there to be read; nothing once ``drain`` was called."""
        if self._draining:
            self._reads_refused += 1
            await asyncio.sleep(DRAIN_LOOK_S)
            return {}
        self.ask()
        found: dict[TopicPartition, list[Any]] = await self.consumer.getmany(
            timeout_ms=timeout_ms, max_records=max_records
        )
        return found

    async def drain(self) -> None:
        """Read no more, wait until everything that was read is finished, commit it. The loop must go on meanwhile."""
        self._draining = True
        # The second refusal tells that the loop is through with what it had read before.
        while self._reads_refused < REFUSALS or any(len(each.window) for each in self.partitions.values()):
            await asyncio.sleep(DRAIN_LOOK_S)
        await self.commit()

    async def commit(self) -> None:
        """Commit what is finished; a failure is only logged, the next commit covers it.

        Now and then also what was committed before: a commit that another member began before a rebalance may be taken
        after it, since aiokafka names the generation of the moment in which it sends, and the group's offset goes back.
        """
        self._num_commits += 1
        everything = self._num_commits % AGAIN == 0
        offsets = {
            place: progress.committable
            for place, progress in self.partitions.items()
            if progress.committable > (-1 if everything else self._committed.get(place, -1))
        }
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self.consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.info("offsets were not committed (%s); they will be with the next ones", type(error).__name__)
        else:
            self._committed.update(offsets)


def _nothing() -> None:
    """Nobody needs to be asked."""

"""Partitions of the simulated log for stores that claim and wait: what they await is an outcome of another step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.errors import FencedError
from streams.fenced import WriteFailedError
from streams.partition_log import LogRecord
from tests.sim.group import Place
from tests.sim.processes import Process
from tests.sim.world import Outcome, Sending


@dataclass(slots=True)
class Until:
    """What a coroutine waits for: it may go on when ``met`` says so."""

    met: Callable[[], bool]

    def __await__(self) -> Generator[Until, None, None]:
        yield self


@dataclass(slots=True)
class Submission:
    """Sends under way; ``outcomes`` fills up in their order."""

    count: int
    outcomes: list[Outcome] = field(default_factory=list)

    def done(self) -> bool:
        """Whether all are known, or one failed."""
        return len(self.outcomes) == self.count or any(outcome.error for outcome in self.outcomes)


class SimWriter:
    """A claimed writer (``streams.partition_log.LogWriter``); with ``claim`` 0 a plain producer of one topic."""

    def __init__(self, process: Process, place: Place, epoch: int | None, claim: int) -> None:
        self.process = process
        self.place = place
        self.epoch = epoch
        self.claim = claim
        self.open = True

    @property
    def alive(self) -> bool:
        """Whether somebody takes the outcomes."""
        return self.open and self.process.alive

    async def send(self, key: bytes | None, value: bytes | None, headers: Any = ()) -> int:
        """Write one record."""
        first, _ = await self.confirm(await self.submit([(key, value, headers)]))
        return first

    async def submit(self, records: Sequence[Any]) -> Submission:
        """Hand records over, each landing by itself."""
        submission = Submission(len(records))
        for record in records:
            sending = Sending([record], submission.outcomes.append, self.epoch, self.claim)
            self.process.world.send(self, *self.place, sending)
        return submission

    async def confirm(self, submission: Submission) -> tuple[int, int]:
        """Wait for them."""
        await Until(submission.done)
        for outcome in submission.outcomes:
            if outcome.fenced:
                raise FencedError(*self.place)
            if outcome.error:
                raise WriteFailedError(*self.place, outcome.error)
        return submission.outcomes[0].first, submission.outcomes[-1].end

    async def stop(self) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close; what is under way lands later or never."""
        self.open = False
        self.process.world.orphan(self)


class SimPartitions:
    """Partitions of the simulated log, for the real event store (``streams.partition_log.PartitionLog``)."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.claimed: list[SimWriter] = []

    async def claim(self, topic: str, partition: int) -> SimWriter:
        """Shut every earlier writer out."""
        await Until(lambda: True)
        writer = SimWriter(self.process, (topic, partition), *self.process.world.claim(topic, partition))
        self.claimed.append(writer)
        return writer

    async def read(self, topic: str, partition: int, first: int = 0) -> list[LogRecord]:
        """All records as of now."""
        await Until(lambda: True)
        return [
            LogRecord(record.offset, record.key, record.value, record.headers, record.timestamp_us // 1000)
            for record in self.process.world.log.scan(topic, partition, first)
        ]

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset, and the one behind the last."""
        return 0, self.process.world.end((topic, partition))

    def close(self) -> None:
        """Close every writer."""
        for writer in self.claimed:
            writer.close()
        self.claimed = []

"""A log in memory with Kafka's rules that we rest on: dense offsets per partition, markers nobody reads, fences.

Supplier for the simulation and for contract tests; the contract suite runs the same cases on a real broker. It is not
a broker: no groups, no compaction, no retention. Appends are deterministic: time is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streams.errors import FencedError, InvariantError

Header = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as a reader sees it; ``timestamp_us`` is the log's append time."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    timestamp_us: int = 0


@dataclass(slots=True)
class _Partition:
    """Records by offset with None for markers; ``epoch`` is the newest claim, 0 = never claimed."""

    records: list[LogRecord | None] = field(default_factory=list)
    epoch: int = 0


class MemoryLog:
    """Topics and partitions in memory. One thread; every call is complete when it returns."""

    def __init__(self) -> None:
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._counts: dict[str, int] = {}

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic; creating it again with the same number of partitions changes nothing."""
        if self._counts.setdefault(topic, partitions) != partitions:
            raise InvariantError(f"{topic} exists with {self._counts[topic]} partitions, not {partitions}")
        for partition in range(partitions):
            self._partitions.setdefault((topic, partition), _Partition())

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic."""
        if topic not in self._counts:
            raise InvariantError(f"there is no topic {topic}")
        return self._counts[topic]

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[Header, ...] = (),
        timestamp_us: int = 0,
        *,
        epoch: int | None = None,
    ) -> int:
        """Append a record and return its offset.

        ``epoch`` is the writer's claim; None writes without one, which no fence refuses (as with Kafka). Raised when a
        newer claim exists: FencedError.
        """
        log = self._at(topic, partition)
        if epoch is not None and epoch != log.epoch:
            raise FencedError(topic, partition)
        offset = len(log.records)
        log.records.append(LogRecord(topic, partition, offset, key, value, headers, timestamp_us))
        return offset

    def claim(self, topic: str, partition: int) -> int:
        """Shut out every earlier claim and return the new epoch; leaves a marker, an offset that no reader sees."""
        log = self._at(topic, partition)
        log.epoch += 1
        log.records.append(None)
        return log.epoch

    def skip(self, topic: str, partition: int, num_offsets: int = 1) -> None:
        """Leave offsets that hold no record, as aborted transactions do."""
        self._at(topic, partition).records.extend([None] * num_offsets)

    def read(self, topic: str, partition: int, offset: int, max_records: int = 1000) -> tuple[LogRecord, ...]:
        """Up to ``max_records`` records from ``offset`` on, in order; markers are passed over."""
        found: list[LogRecord] = []
        for record in self.scan(topic, partition, offset):
            if len(found) == max_records:
                break
            found.append(record)
        return tuple(found)

    def scan(self, topic: str, partition: int, offset: int = 0) -> Iterator[LogRecord]:
        """Every record from ``offset`` to the end as of now."""
        records = self._at(topic, partition).records
        for at in range(offset, len(records)):
            record = records[at]
            if record is not None:
                yield record

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record gets; a reader is up to date when its position has reached it."""
        return len(self._at(topic, partition).records)

    def _at(self, topic: str, partition: int) -> _Partition:
        try:
            return self._partitions[topic, partition]
        except KeyError:
            raise InvariantError(f"there is no partition {topic}-{partition}") from None

"""A partition log for unit tests of readers that seek: records by offset, with timestamps, in small fetches."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER


def result_record(
    offset: int, source: tuple[bytes, int, int], letter: bytes, value: bytes | None, *, time_ms: int = 0
) -> Any:
    """A record of the results topic."""
    headers = ((SOURCE_HEADER, SOURCE.pack(*source)), (STATUS_HEADER, letter))
    return SimpleNamespace(
        offset=offset, timestamp=time_ms, value=value, headers=headers, key=None, partition=0, topic=""
    )


@dataclass
class FakeLogReader:
    """What ``edge.earlier`` and ``edge.id_restore`` use of a consumer; ``reads``: the offsets it gave out."""

    logs: dict[TopicPartition, list[Any]]
    fetch: int = 2
    error: Exception | None = None
    reads: list[int] = field(default_factory=list)
    stopped: int = 0
    paused: bool = False
    assigned: set[TopicPartition] = field(default_factory=set)
    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = set(places)

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        self.stopped += 1

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.error is not None:
            raise self.error
        return {place: self._records(place)[-1].offset + 1 if self._records(place) else 0 for place in places}

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self._records(place)[0].offset if self._records(place) else 0 for place in places}

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        return {
            place: next((each for each in self._records(place) if each.timestamp >= since), None)
            for place, since in times.items()
        }

    def pause(self, place: TopicPartition) -> None:
        self.paused = True

    def resume(self, place: TopicPartition) -> None:
        self.paused = False

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place] = offset

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place]

    async def getmany(self, place: TopicPartition, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, Any]:
        found = [each for each in self._records(place) if each.offset >= self.positions[place]]
        found = found[: min(self.fetch, max_records)]
        if not found:
            return {}
        self.positions[place] = found[-1].offset + 1
        self.reads += [each.offset for each in found]
        return {place: found}

    def _records(self, place: TopicPartition) -> list[Any]:
        return self.logs.get(place, [])

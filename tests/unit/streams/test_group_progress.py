"""A group has caught up when it has committed all records; markers behind them do not count."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams import group_progress
from streams.connection import Connection, TimedOutError
from streams.group_progress import wait_caught_up

PLACE = TopicPartition("isos.inference.requests.v1", 0)


class Group:
    """A client over one partition: ``records`` hold offsets of records, ``end`` is behind the last marker."""

    def __init__(self, end: int, records: tuple[int, ...], committed: list[int | None]) -> None:
        self.end = end
        self.records = records
        self.offsets = committed
        self.at = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def committed(self, _place: TopicPartition) -> int | None:
        return self.offsets.pop(0) if len(self.offsets) > 1 else self.offsets[0]

    def assign(self, places: list[TopicPartition]) -> None:
        assert places == [PLACE]

    def seek(self, _place: TopicPartition, offset: int) -> None:
        self.at = offset

    async def getmany(self, place: TopicPartition, **_: Any) -> dict[TopicPartition, list[Any]]:
        found = [SimpleNamespace(offset=offset) for offset in self.records if offset >= self.at]
        self.at = self.end
        return {place: found} if found else {}

    async def position(self, _place: TopicPartition) -> int:
        return self.at


def use(monkeypatch: pytest.MonkeyPatch, group: Group) -> None:
    async def count(_connection: Connection, names: list[str]) -> dict[str, int]:
        return dict.fromkeys(names, 1)

    monkeypatch.setattr(group_progress, "consumer", lambda *_, **__: group)
    monkeypatch.setattr(group_progress, "topic_partitions", count)
    monkeypatch.setattr(group_progress, "LOOK_S", 0.001)


def wait(timeout_s: float = 5.0) -> float:
    return asyncio.run(wait_caught_up(Connection("127.0.0.1:1"), "group", "inference.requests", timeout_s))


@pytest.mark.parametrize(
    ("end", "records", "committed"),
    [
        (0, (), [None]),
        (3, (0, 1, 2), [0, 1, 3]),
        (4, (0, 1, 2), [3]),  # a marker ends the log
        (2, (), [None]),  # nothing but markers
    ],
)
def test_it_returns_when_all_records_are_committed(
    monkeypatch: pytest.MonkeyPatch, end: int, records: tuple[int, ...], committed: list[int | None]
) -> None:
    use(monkeypatch, Group(end, records, committed))
    assert wait() >= 0


@pytest.mark.parametrize("committed", [[2], [None]])
def test_an_uncommitted_record_is_waited_for(monkeypatch: pytest.MonkeyPatch, committed: list[int | None]) -> None:
    use(monkeypatch, Group(3, (0, 1, 2), committed))
    with pytest.raises(TimedOutError, match="by group"):
        wait(0.01)


def test_partitions_of_another_group_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Group(3, (0, 1, 2), [0]))
    connection = Connection("127.0.0.1:1")
    asyncio.run(wait_caught_up(connection, "group", "inference.requests", 5.0, lambda count: range(count, count)))

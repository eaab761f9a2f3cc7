"""Reading a journal in portions; the broker is in tests/integration/test_replay.py."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.review import ReviewDecision
from streams.codec import SchemaIds, subject_of
from streams.connection import Connection, UnreachableError
from streams.control import journal_reader
from streams.control.journal_reader import read_journal, replay_codec
from streams.control.tenure import TAIL, JournalPlace
from tests.support.fake_log import FakeLogReader

PLACE = JournalPlace("t", 2)
AT = TopicPartition("t", 2)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLogReader]:
    log = FakeLogReader({AT: [SimpleNamespace(offset=n, timestamp=10 * n, value=b"") for n in range(100, 4_000)]}, 700)
    monkeypatch.setattr(journal_reader, "consumer", lambda connection, **settings: log)
    yield log
    assert log.stopped == 1


async def read(**options: Any) -> tuple[bool, list[int]]:
    seen: list[int] = []

    def take(records: Any) -> bool:
        seen.extend(record.offset for record in records)
        return len(seen) < 10_000

    return await read_journal(Connection("127.0.0.1:1"), PLACE, take, **options), seen


async def test_everything_in_portions_with_progress(log: FakeLogReader) -> None:
    told: list[tuple[int, int]] = []
    assert await read(progress=lambda done, total: told.append((done, total))) == (False, list(range(100, 4_000)))
    assert told[0] == (0, 3_900)
    assert told[-1] == (3_900, 3_900)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_from_a_time_with_room_for_a_snapshot_before(log: FakeLogReader) -> None:
    assert await read(since_ms=30_000) == (True, list(range(3_000 - TAIL, 4_000)))
    log.stopped = 0
    assert await read(since_ms=10_000) == (False, list(range(100, 4_000)))
    log.stopped = 0
    assert await read(since_ms=99_999) == (True, list(range(4_000 - TAIL, 4_000)))


async def test_an_empty_partition(log: FakeLogReader) -> None:
    log.logs.clear()
    assert await read() == (False, [])


async def test_reading_ends_when_enough_was_seen(log: FakeLogReader) -> None:
    calls: list[int] = []

    def take(records: Any) -> bool:
        calls.append(len(records))
        return False

    assert await read_journal(Connection("127.0.0.1:1"), PLACE, take) is False
    assert calls == [700]


async def test_the_clients_errors_are_ours(log: FakeLogReader) -> None:
    log.error = KafkaError("away")
    with pytest.raises(UnreachableError, match="reading t failed"):
        await read()


async def test_a_log_that_yields_nothing_is_noticed(log: FakeLogReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_reader, "STALL_TIMEOUT_S", 0.05)
    log.fetch = 0
    with pytest.raises(UnreachableError, match="no record arrived"):
        await read()


def test_a_codec_writes_also_what_is_not_registered_yet() -> None:
    local = SchemaIds.local(7)
    subject = subject_of("control.review-decisions")
    without = SchemaIds({name: own for name, own in local.write_ids.items() if name != subject}, local.by_id)
    codec = replay_codec(without)
    record = ReviewDecision("r", "expired", "reviewer", "late", "ab", 5)
    assert codec.decode("control.review-decisions", codec.encode("control.review-decisions", record)) == record
    assert codec.ids.write_ids[subject] not in local.by_id
    assert {name: own for name, own in codec.ids.write_ids.items() if name != subject} == dict(without.write_ids)
    assert replay_codec(local).ids == local

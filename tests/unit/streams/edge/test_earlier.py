"""Outcomes of earlier requests: found by coordinate, bounded, remembered, gone on with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError
from streams.edge import earlier
from streams.edge.earlier import NOT_FOUND, REQUESTS, RESULTS, UNDER_WAY, EarlierResults, _near
from streams.edge.request_ids import NO_DIGEST, Claim
from tests.support import samples
from tests.support.fake_log import FakeLogReader, result_record
from tests.support.frames import TOPIC_ID

CODEC = Codec(SchemaIds.local())
RESULT = samples.SAMPLES["InferenceResult"]
VALUE = CODEC.encode("inference.results", RESULT)
PLACE = TopicPartition(RESULTS, 0)
T_MS = 1_700_000_000_000


def claim(offset: int, *, partition: int = 0, at_ms: int = T_MS) -> Claim:
    return Claim(partition, offset, at_ms * 1000, NO_DIGEST)


def answered(at: int, offset: int, letter: bytes = b"O", *, at_ms: int = T_MS, **fields: Any) -> Any:
    """The result at offset ``at`` of the request at ``offset``."""
    made = result_record(at, (TOPIC_ID, 0, offset), letter, VALUE, time_ms=at_ms)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeLogReader:
    fake = FakeLogReader({})
    monkeypatch.setattr(earlier, "consumer", lambda *_, **__: fake)
    return fake


@pytest.fixture
def results() -> EarlierResults:
    return EarlierResults(Connection("127.0.0.1:1"), CODEC, TOPIC_ID)


async def test_outcomes_by_coordinate(reader: FakeLogReader, results: EarlierResults) -> None:
    other = result_record(3, (b"o" * 16, 0, 4), b"O", VALUE, time_ms=T_MS)
    reader.logs[PLACE] = [answered(1, 1), answered(2, 2, b"E"), other, answered(7, 3, b"X")]
    found = await results.look([claim(n) for n in (1, 2, 3, 4)])
    assert found[0, 1].answer == RESULT
    assert [(found[0, n].state, found[0, n].answer) for n in (2, 3)] == [("ended", None), ("ended", None)]
    assert found[0, 4] is UNDER_WAY


async def test_an_empty_log(reader: FakeLogReader, results: EarlierResults) -> None:
    assert await results.look([claim(1)]) == {(0, 1): UNDER_WAY}


async def test_an_answer_that_nobody_can_read_frees_the_id(reader: FakeLogReader, results: EarlierResults) -> None:
    reader.logs[PLACE] = [answered(1, 1, value=b"\0\0\0\0\1?")]
    outcome = (await results.look([claim(1)]))[0, 1]
    assert (outcome.state, outcome.answer) == ("ended", None)


async def test_it_reads_from_the_requests_time_and_stops_at_its_result(
    reader: FakeLogReader, results: EarlierResults
) -> None:
    reader.logs[PLACE] = [answered(n, n, at_ms=T_MS + 100 * n) for n in range(40)]
    await results.look([claim(20, at_ms=T_MS + 2000)])
    assert min(reader.reads) == 18  # 250 ms for two clocks
    assert max(reader.reads) <= 21


async def test_an_outcome_is_read_once(reader: FakeLogReader, results: EarlierResults) -> None:
    reader.logs[PLACE] = [answered(1, 1)]
    for _ in range(3):
        assert (await results.look([claim(1), claim(1)]))[0, 1].answer == RESULT
    assert reader.reads == [1]
    assert reader.paused  # between looks nothing is fetched


async def test_a_request_under_way_is_looked_for_where_the_last_look_ended(
    reader: FakeLogReader, results: EarlierResults
) -> None:
    reader.logs[PLACE] = [answered(n, n) for n in range(10)]
    for _ in range(3):
        assert (await results.look([claim(99)]))[0, 99] is UNDER_WAY
    assert reader.reads == list(range(10))
    reader.logs[PLACE].append(answered(10, 99))
    assert (await results.look([claim(99)]))[0, 99].answer == RESULT
    assert reader.reads == list(range(11))


async def test_a_look_is_bounded_and_the_next_goes_on(
    reader: FakeLogReader, results: EarlierResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "MAX_RECORDS", 4)
    reader.logs[PLACE] = [*(answered(n, n) for n in range(6)), answered(6, 99)]
    assert (await results.look([claim(99)]))[0, 99] is NOT_FOUND
    assert (await results.look([claim(99)]))[0, 99].answer == RESULT
    assert reader.reads == list(range(7))


async def test_what_is_kept_is_bounded(
    reader: FakeLogReader, results: EarlierResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "MAX_KEPT", 2)
    reader.logs[PLACE] = [answered(n, n) for n in range(5)]
    await results.look([claim(n) for n in range(9)])
    assert (list(results._kept), list(results._searched)) == ([(0, 3), (0, 4)], [(0, 7), (0, 8)])
    monkeypatch.setattr(earlier, "MAX_KEPT_BYTES", 1)
    await results.look([claim(2)])
    assert list(results._kept) == [(0, 2)]
    assert results._kept_bytes == results._kept[0, 2].num_bytes


async def test_a_failed_look_says_so_and_takes_another_consumer(reader: FakeLogReader, results: EarlierResults) -> None:
    reader.logs[PLACE] = [answered(1, 1)]
    reader.error = KafkaConnectionError()
    with pytest.raises(UnreachableError):
        await results.look([claim(1)])
    assert reader.stopped == 1
    reader.error = None
    assert (await results.look([claim(1)]))[0, 1].answer == RESULT


async def test_the_request_itself(
    reader: FakeLogReader, results: EarlierResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "LOOK_S", 0.0)
    log = reader.logs[TopicPartition(REQUESTS, 0)] = [answered(n, 0) for n in (4, 5, 7)]
    monkeypatch.setattr(earlier, "LOOK_S", 5.0)
    assert await results.request(claim(5)) is log[1]
    for gone in (3, 6, 8):
        assert await results.request(claim(gone)) is None
    await results.close()
    assert reader.stopped == 1


def test_requests_that_came_together_are_looked_for_together() -> None:
    claims = [claim(n, at_ms=T_MS + at) for n, at in enumerate((0, 19_000, 4_500, 5_100, 19_100))]
    assert [[each.offset for each in group] for group in _near(claims)] == [[0, 2], [3], [1, 4]]
    assert _near([]) == []
    assert _near([replace(claims[0])]) == [[claims[0]]]

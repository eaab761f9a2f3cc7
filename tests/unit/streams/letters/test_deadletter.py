"""Dead letters carry the record as it came, its place and its reason, or the caller hears that they do not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from schemas.coordinate import RecordCoordinate
from streams.errors import PoisonRecordError
from streams.letters import deadletter
from streams.letters.deadletter import CODE_HEADER, TOPIC, DeadLetters, LetterNotWrittenError
from streams.letters.letter import Letter, parse_letter
from tests.support.fake_kafka import FakeProducer

WHERE = RecordCoordinate("isos.inference.requests.v1", 2, 77)


def letters(count: int, **given: bytes) -> list[Letter]:
    return [
        Letter(RecordCoordinate(WHERE.topic, 0, offset), given.get("value", b"x"), "garbage", "not Avro", key=b"k")
        for offset in range(count)
    ]


def record(value: bytes | None, **fields: Any) -> SimpleNamespace:
    """A record as a client read it, at ``WHERE``."""
    plain = {"key": None, "headers": (), "timestamp": 7}
    return SimpleNamespace(topic=WHERE.topic, partition=2, offset=77, value=value, **{**plain, **fields})


async def test_a_letter_names_place_and_reason() -> None:
    producer = FakeProducer()
    await DeadLetters(producer, "edge").write(record(b"\xff\x00"), PoisonRecordError("garbage", "x" * 5000))
    (sent,) = producer.sent
    headers = dict(sent.headers)
    assert (sent.topic, sent.value, sent.key) == (TOPIC, b"\xff\x00", b"isos.inference.requests.v1/2/77")
    assert headers["__streams.errors.topic"] == b"isos.inference.requests.v1"
    assert (headers["__streams.errors.partition"], headers["__streams.errors.offset"]) == (b"2", b"77")
    assert (headers[CODE_HEADER], headers["isos-stage"]) == (b"garbage", b"edge")
    assert len(headers["__streams.errors.message"]) == 1000


@pytest.mark.parametrize(("timestamp", "expected_ms"), [(1_700_000_000.123, 1_700_000_000_123), (77, 77)])
async def test_a_records_letter_has_its_key_and_headers(timestamp: float, expected_ms: int) -> None:
    """Faust's messages tell seconds, the client's records milliseconds."""
    producer = FakeProducer()
    read = record(b"\xff", key=b"k", headers=[("h", b"1")], timestamp=timestamp)
    await DeadLetters(producer, "router").write(read, PoisonRecordError("garbage", "not a frame"))
    (sent,) = producer.sent
    found = parse_letter(sent.value, sent.headers)
    assert found is not None
    assert (found.where, found.value, found.key, found.headers) == (WHERE, b"\xff", b"k", (("h", b"1"),))
    assert (found.timestamp_ms, found.stage) == (expected_ms, "router")


async def test_a_null_value_is_kept_as_null() -> None:
    producer = FakeProducer()
    await DeadLetters(producer, "edge").write(record(None), PoisonRecordError("null_value", "no value"))
    assert producer.sent[0].value is None


async def test_many_letters_are_on_their_way_together_and_the_caller_waits_for_all() -> None:
    producer = FakeProducer(automatic=False)
    task = asyncio.ensure_future(DeadLetters(producer, "edge", {WHERE.topic: b"\1" * 16}).write_many(letters(300)))
    while len(producer.sent) < 300:
        await asyncio.sleep(0)
    for sent in producer.sent[:-1]:
        sent.future.set_result(None)
    await asyncio.sleep(0.01)
    assert not task.done()
    producer.sent[-1].future.set_result(None)
    await task
    found = parse_letter(producer.sent[7].value, producer.sent[7].headers)
    assert found is not None
    assert (found.where.offset, found.key, found.topic_id) == (7, b"k", b"\1" * 16)


async def test_no_letters_are_no_writes() -> None:
    producer = FakeProducer()
    await DeadLetters(producer, "edge").write_many([])
    assert producer.sent == []


async def test_large_letters_are_not_all_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletter, "MAX_ROUND_BYTES", 250)
    producer = FakeProducer(automatic=False)
    task = asyncio.ensure_future(DeadLetters(producer, "edge").write_many(letters(5, value=bytes(100))))
    seen = []
    while not task.done():
        await asyncio.sleep(0)
        open_ = [sent for sent in producer.sent if not sent.future.done()]
        seen.append(len(open_))
        if len(open_) == 2 or len(producer.sent) == 5:
            for sent in open_:
                sent.future.set_result(None)
    await task
    assert (max(seen), len(producer.sent)) == (2, 5)


async def test_letters_that_cannot_be_written_are_not_passed_over() -> None:
    with pytest.raises(LetterNotWrittenError, match=r"77 \(and 1 more\) could not be written") as raised:
        await DeadLetters(FakeProducer(error=KafkaConnectionError()), "edge").write_many(
            [Letter(WHERE, b"", "garbage", "x"), Letter(WHERE, b"", "garbage", "x")]
        )
    assert "isos doctor" in str(raised.value)


async def test_one_refused_letter_fails_all() -> None:
    producer = FakeProducer(automatic=False)
    task = asyncio.ensure_future(DeadLetters(producer, "edge").write_many(letters(3)))
    while len(producer.sent) < 3:
        await asyncio.sleep(0)
    for sent in producer.sent[:2]:
        sent.future.set_result(None)
    producer.sent[2].future.set_exception(MessageSizeTooLargeError("too large"))
    with pytest.raises(LetterNotWrittenError, match=r"v1/0/2 \(and 2 more\).*too large"):  # it, of three
        await task


async def test_an_answer_that_never_comes_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletter, "SEND_TIMEOUT_S", 0.05)
    with pytest.raises(LetterNotWrittenError, match=r"no answer within 0\.05 s"):
        await DeadLetters(FakeProducer(automatic=False), "edge").write_many(letters(1))

"""Dead letters carry the record as it came, its place and its reason, or the caller hears that they do not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)

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
    for _ in range(10):  # more turns than the rest takes
        await asyncio.sleep(0)
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


async def test_one_letter_that_fails_fails_all() -> None:
    producer = FakeProducer(automatic=False)
    task = asyncio.ensure_future(DeadLetters(producer, "edge").write_many(letters(3)))
    while len(producer.sent) < 3:
        await asyncio.sleep(0)
    for sent in producer.sent[:2]:
        sent.future.set_result(None)
    producer.sent[2].future.set_exception(KafkaConnectionError("gone away"))
    with pytest.raises(LetterNotWrittenError, match=r"v1/0/2 \(and 2 more\).*gone away"):  # it, of three
        await task


class Narrow(FakeProducer):
    """A topic that takes records up to a size, or none for what they are."""

    def __init__(self, max_bytes: int, error: type[KafkaError] = MessageSizeTooLargeError) -> None:
        super().__init__()
        self.max_bytes, self.refusal = max_bytes, error

    async def send(self, topic: str, value: bytes | None = None, **given: Any) -> asyncio.Future[Any]:
        size = (
            len(value or b"") + len(given["key"]) + sum(len(name) + len(text) + 10 for name, text in given["headers"])
        )
        if size <= self.max_bytes:
            return await super().send(topic, value, **given)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(self.refusal("no"))
        return future


@pytest.mark.parametrize("refusal", [MessageSizeTooLargeError, RecordListTooLargeError, UnknownError])
async def test_a_letter_that_is_refused_for_what_it_holds_stands_without_its_record(refusal: type[KafkaError]) -> None:
    producer = Narrow(2000, refusal)
    whole, large = letters(1)[0], Letter(WHERE, bytes(3000), "garbage", "not Avro", key=b"k", headers=(("h", b"1"),))
    await DeadLetters(producer, "edge").write_many([whole, large])
    first, second = (parse_letter(sent.value, sent.headers) for sent in producer.sent)
    assert first is not None
    assert second is not None
    assert (first.value, first.omitted) == (b"x", "")
    assert (second.where, second.code, second.message) == (WHERE, "garbage", "not Avro")
    assert (second.value, second.key, second.headers) == (None, None, ())
    assert second.omitted.startswith("3000 bytes, sha256 ")
    assert "; refused: " in second.omitted


async def test_a_letter_whose_reasons_are_too_long_stands_with_its_place_and_code() -> None:
    producer = Narrow(800)
    place = RecordCoordinate("isos.inference.ledger-checkpoints.v1", 123, 1 << 50)
    long = Letter(place, b"", "unsupported_tensor", "m" * 900, "streams.errors.PoisonRecordError", "c" * 4000)
    await DeadLetters(producer, "validator", {place.topic: bytes(16)}).write_many([long])
    found = parse_letter(producer.sent[0].value, producer.sent[0].headers)
    assert found is not None
    assert (found.where, found.code, found.topic_id) == (place, "unsupported_tensor", bytes(16))
    assert (found.message, found.causes) == ("m" * 120, "")


async def test_a_topic_that_takes_no_letter_at_all_stops_its_stage() -> None:
    with pytest.raises(LetterNotWrittenError, match=r"/77 could not be written"):
        await DeadLetters(Narrow(100), "edge").write_many([Letter(WHERE, bytes(3000), "garbage", "x")])


async def test_what_is_refused_and_then_fails_stops_its_stage() -> None:
    """The broker goes away between two attempts."""
    producer = FakeProducer(automatic=False)
    task = asyncio.ensure_future(DeadLetters(producer, "edge").write_many(letters(1)))
    for error in (MessageSizeTooLargeError("too large"), KafkaConnectionError("gone away")):
        while not producer.sent or producer.sent[-1].future.done():
            await asyncio.sleep(0)
        producer.sent[-1].future.set_exception(error)
    with pytest.raises(LetterNotWrittenError, match="gone away"):
        await task


async def test_an_answer_that_never_comes_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletter, "SEND_TIMEOUT_S", 0.05)
    with pytest.raises(LetterNotWrittenError, match=r"no answer within 0\.05 s"):
        await DeadLetters(FakeProducer(automatic=False), "edge").write_many(letters(1))

"""Dead letters carry the value as it came, its place and its reason, or the caller hears that they do not."""

from __future__ import annotations

import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.coordinate import RecordCoordinate
from streams.deadletter import CODE_HEADER, TOPIC, DeadLetters
from streams.errors import PoisonRecordError, RetriableError
from tests.support.fake_kafka import FakeProducer

WHERE = RecordCoordinate("isos.inference.requests.v1", 2, 77)


async def test_a_letter_names_place_and_reason() -> None:
    producer = FakeProducer()
    await DeadLetters(producer, "edge").write(b"\xff\x00", PoisonRecordError("garbage", "x" * 5000), WHERE)
    (sent,) = producer.sent
    headers = dict(sent.headers)
    assert (sent.topic, sent.value, sent.key) == (TOPIC, b"\xff\x00", b"isos.inference.requests.v1/2/77")
    assert headers["__streams.errors.topic"] == b"isos.inference.requests.v1"
    assert (headers["__streams.errors.partition"], headers["__streams.errors.offset"]) == (b"2", b"77")
    assert (headers[CODE_HEADER], headers["isos-stage"]) == (b"garbage", b"edge")
    assert len(headers["__streams.errors.message"]) == 1000


async def test_a_null_value_is_kept_as_null() -> None:
    producer = FakeProducer()
    await DeadLetters(producer, "edge").write(None, PoisonRecordError("null_value", "no value"), WHERE)
    assert producer.sent[0].value is None


async def test_a_letter_that_cannot_be_written_is_not_passed_over() -> None:
    with pytest.raises(RetriableError, match="dead letter"):
        await DeadLetters(FakeProducer(error=KafkaConnectionError()), "edge").write(
            b"", PoisonRecordError("garbage", "x"), WHERE
        )

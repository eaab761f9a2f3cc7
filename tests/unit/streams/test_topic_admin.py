"""What the brokers answer about topics, as ours; real answers are in the integration tests."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.connection import Connection, TimedOutError, UnreachableError
from streams.topic_admin import admin_client, results_of, until, uuid_bytes
from tests.support.broker import free_ports


class Uuid:
    """The client's shape: two signed halves."""

    def get_most_significant_bits(self) -> int:
        return -2

    def get_least_significant_bits(self) -> int:
        return 1


def answered(value: Any) -> Future[Any]:
    """A future with a value, or with an error to raise."""
    future: Future[Any] = Future()
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


def failed(code: int) -> Future[Any]:
    return answered(KafkaException(KafkaError(code)))


def test_topic_ids_are_16_bytes_big_endian() -> None:
    assert uuid_bytes(Uuid()).hex() == "fffffffffffffffe0000000000000001"


def test_known_failures_are_left_out() -> None:
    code = KafkaError.UNKNOWN_TOPIC_OR_PART
    assert results_of("asking", {"a": answered(1), "b": failed(code)}, (code,)) == {"a": 1}


def test_other_failures_are_ours() -> None:
    with pytest.raises(UnreachableError, match="asking"):
        results_of("asking", {"a": failed(KafkaError.TOPIC_AUTHORIZATION_FAILED)}, (KafkaError.UNKNOWN_TOPIC_OR_PART,))
    with pytest.raises(TimedOutError, match="asking"):
        results_of("asking", {"a": answered(TimeoutError())})


def test_an_address_where_nobody_listens_is_noticed_before_the_client_is_made() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(UnreachableError, match=address):
        admin_client(Connection(address))


def test_a_condition_is_waited_for() -> None:
    answers = iter((False, False, True))
    until(lambda: next(answers), "the third answer")
    assert list(answers) == []

"""What is kept of a result; reading from a broker is in tests/integration/test_load.py."""

import confluent_kafka as ck
import pytest

from infra.bench import receiver
from infra.bench.receiver import Notes
from streams.ledger import SOURCE


class Message:
    """As much of a message as is looked at."""

    def __init__(self, key, headers, error=None):
        self.key, self.headers, self.error = lambda: key, lambda: headers, lambda: error


def headers(partition, offset, status=b"O", *more):
    return [("isos-source", SOURCE.pack(bytes(16), partition, offset)), ("isos-status", status), *more]


def test_a_result_in_six_integers():
    notes = Notes("abcdefgh")
    notes.add([Message(b"abcdefgh-00000000ff", headers(3, 7))], 5)
    notes.add([Message(b"others", headers(1, 2, b"R", ("isos-reaped", b"1"))), Message(None, headers(0, 1, b"X"))], 6)
    received = notes.columns()
    assert len(notes) == 3
    assert received.index.tolist() == [255, -1, -1]
    assert received.partition.tolist() == [3, 1, 0]
    assert received.offset.tolist() == [7, 2, 1]
    assert received.received_us.tolist() == [5, 6, 6]
    assert received.status.tolist() == [1, 3, 4]
    assert received.reaped.tolist() == [0, 1, 0]


def test_errors_and_records_of_others_are_passed_over(capsys):
    notes = Notes("abcdefgh")
    notes.add([Message(None, None, "broker is away"), Message(b"k", None), Message(b"k", [("trace", b"1")])], 1)
    assert len(notes) == 0
    assert "broker is away" in capsys.readouterr().err


class Consumer:
    """Has no leader for the first looks."""

    def __init__(self, failures):
        self.failures = failures

    def get_watermark_offsets(self, part, timeout):
        self.failures -= 1
        if self.failures >= 0:
            raise ck.KafkaException(ck.KafkaError(ck.KafkaError.NOT_LEADER_FOR_PARTITION))
        return 0, 7


def test_a_leader_that_is_being_elected_is_asked_again(monkeypatch):
    monkeypatch.setattr(receiver.time, "sleep", lambda seconds: None)
    part = ck.TopicPartition("results", 0)
    assert receiver._end_of(Consumer(2), part) == 7
    monkeypatch.setattr(receiver, "START_S", 0.0)
    with pytest.raises(ck.KafkaException):
        receiver._end_of(Consumer(2), part)

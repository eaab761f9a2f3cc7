"""Rows left to execute are counted between two ends, markers at the end or not."""

import confluent_kafka as ck
import pytest

from infra.bench import routed


class Message:
    """As much of a message as is looked at."""

    def __init__(self, partition, offset, value=b"", error=None):
        self.partition, self.offset = lambda: partition, lambda: offset
        self.value, self.error = lambda: value, lambda: error


class Consumer:
    """Hands out messages; ends of partitions 0 and 1 are 4 and 2."""

    def __init__(self, messages):
        self.messages, self.assigned, self.closed = list(messages), [], False

    def list_topics(self, topic, timeout):
        return type("M", (), {"topics": {topic: type("T", (), {"partitions": {0: None, 1: None}})}})

    def get_watermark_offsets(self, place, timeout):
        return 0, {0: 4, 1: 2}[place.partition]

    def assign(self, places):
        self.assigned = [(place.partition, place.offset) for place in places]

    def poll(self, seconds):
        return self.messages.pop(0) if self.messages else None

    def close(self):
        self.closed = True


@pytest.fixture
def consumer(monkeypatch):
    end = ck.KafkaError(ck.KafkaError._PARTITION_EOF)
    made = Consumer([Message(0, 1, b"\x00\x00\x01"), None, Message(0, 2, b"\x00"), Message(0, 4, error=end)])
    monkeypatch.setattr(routed, "_consumer", lambda bootstrap: made)
    monkeypatch.setattr(routed, "decode_frame", lambda value, at: type("F", (), {"statuses": value}))
    return made


def test_ends(consumer):
    assert routed.routed_ends("b") == {0: 4, 1: 2}
    assert consumer.closed


def test_rows_since_the_ends_of_then(consumer):
    assert routed.count_routed_rows("b", {0: 1, 1: 2}) == 3
    assert consumer.assigned == [(0, 1)]
    assert consumer.closed

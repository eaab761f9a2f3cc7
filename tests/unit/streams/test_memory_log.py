"""The rules of the in-memory log that the contract suite does not reach."""

from __future__ import annotations

import pytest

from streams.errors import FencedError, InvariantError
from streams.memory_log import MemoryLog


def make() -> MemoryLog:
    log = MemoryLog()
    log.create("t", 2)
    return log


def test_topics_must_exist_and_keep_their_partitions() -> None:
    log = make()
    log.create("t", 2)
    assert log.partitions("t") == 2
    with pytest.raises(InvariantError):
        log.create("t", 3)
    with pytest.raises(InvariantError):
        log.append("t", 2, b"k", b"v")
    with pytest.raises(InvariantError):
        log.partitions("u")


def test_skipped_offsets_are_gaps() -> None:
    log = make()
    log.append("t", 0, b"a", b"1", timestamp_us=5)
    log.skip("t", 0, 3)
    log.append("t", 0, b"b", None)
    assert [(record.offset, record.key, record.value) for record in log.read("t", 0, 0)] == [
        (0, b"a", b"1"),
        (4, b"b", None),
    ]
    assert log.end_offset("t", 0) == 5
    assert log.end_offset("t", 1) == 0
    assert log.read("t", 0, 0)[0].timestamp_us == 5


def test_reading_is_bounded() -> None:
    log = make()
    for n in range(5):
        log.append("t", 1, None, bytes([n]))
    assert [record.offset for record in log.read("t", 1, 1, 2)] == [1, 2]


def test_a_claim_counts_up_per_partition() -> None:
    log = make()
    assert [log.claim("t", 0), log.claim("t", 0), log.claim("t", 1)] == [1, 2, 1]
    with pytest.raises(FencedError) as caught:
        log.append("t", 0, b"k", b"v", epoch=1)
    assert (caught.value.topic, caught.value.partition) == ("t", 0)
    assert log.append("t", 0, b"k", b"v", epoch=2) == 2

"""A batch encoded by hand is, to aiokafka's reader and to its producer, one like any other."""

from __future__ import annotations

from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.ready_batch import HEADER_BYTES, ReadyBatch

RECORDS = [(b"a", b"1", [("h", b"x")]), (b"b", b"", []), (b"c", b"3" * 200, [("h", b"y"), ("i", b"z")])]


def their_batch() -> BatchBuilder:
    builder = BatchBuilder(1 << 20, 0)
    for key, value, headers in RECORDS:
        assert builder.append(timestamp=5, key=key, value=value, headers=headers) is not None
    builder._set_producer_state(7, 3, 40)
    return builder


def our_batch(theirs: bytes) -> ReadyBatch:
    return ReadyBatch(memoryview(bytearray(HEADER_BYTES) + theirs[HEADER_BYTES:]), len(RECORDS))


def read(batch: bytes) -> Any:
    records = MemoryRecords(batch)
    return records.next_batch()


def test_it_is_the_batch_that_aiokafka_makes_of_the_same_records() -> None:
    theirs = bytes(their_batch()._build())
    made = our_batch(theirs)
    assert (made.record_count(), made.size(), made.closed()) == (3, len(theirs), True)
    made.close()
    made._set_producer_state(7, 3, 40)
    batch = read(made._build())
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 3, 40)
    assert [(record.key, record.value, list(record.headers)) for record in batch] == RECORDS
    differing = {at for at, (a, b) in enumerate(zip(made._build(), theirs, strict=True)) if a != b}
    assert differing <= {*range(17, 21), *range(27, 43)}  # checksum and times


def test_a_batch_that_is_numbered_anew_has_a_new_checksum() -> None:
    made = our_batch(bytes(their_batch()._build()))
    made._set_producer_state(7, 3, 40)
    first = made._build()
    assert made._build() is first  # a repeated send sends the same bytes
    made._set_producer_state(7, 4, 0)
    assert made._build() != first
    assert read(made._build()).validate_crc()


def test_without_a_producer_state_it_is_a_plain_batch() -> None:
    batch = read(our_batch(bytes(their_batch()._build()))._build())
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.is_transactional) == (-1, -1, False)

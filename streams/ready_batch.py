"""A record batch (Kafka's format 2) whose records are encoded already, in place of aiokafka's batch builder.

aiokafka encodes record by record, each from a key, a value and a list of headers. Who makes many records of one shape
writes their bytes in one go and wraps them here. The producer then asks what it asks of its own builder: it numbers the
batch (producer id, epoch, sequence) when it takes it, so one batch under way per partition, fencing and repeated sends
are as with any other batch.
"""

from __future__ import annotations

import struct
import time
from typing import Final

from aiokafka.record.util import calc_crc32c

HEADER_BYTES: Final = 61
"""Bytes in front of the records."""

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_PRODUCER: Final = struct.Struct(">qhi")
_CRC: Final = struct.Struct(">I")
_PRODUCER_AT: Final = 43
_CRC_AT: Final = 17
_CRC_FROM: Final = 21
_MAGIC: Final = 2
_NONE: Final = -1


class ReadyBatch:
    """``num_records`` records that stand in ``data`` (writable) behind ``HEADER_BYTES`` of room; without compression.

    Their offset deltas ascend from 0 and their time deltas are 0: all have the batch's time, now.
    """

    __slots__ = ("_built", "_data", "_num_records")

    def __init__(self, data: memoryview, num_records: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        _HEADER.pack_into(
            data,
            0,
            0,
            len(data) - 12,
            _NONE,
            _MAGIC,
            0,
            0,
            num_records - 1,
            now_ms,
            now_ms,
            _NONE,
            _NONE,
            0,
            num_records,
        )
        self._data = data
        self._num_records = num_records
        self._built: bytes | None = None

    def record_count(self) -> int:
        """Number of records."""
        return self._num_records

    def size(self) -> int:
        """Bytes, header included."""
        return len(self._data)

    def close(self) -> None:
        """Nothing: it takes no more records."""

    def closed(self) -> bool:
        """Always; the producer need not wait for more."""
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        _PRODUCER.pack_into(self._data, _PRODUCER_AT, producer_id, producer_epoch, base_sequence)
        self._built = None

    def _build(self) -> bytes:
        if self._built is None:
            _CRC.pack_into(self._data, _CRC_AT, calc_crc32c(self._data[_CRC_FROM:]))
            self._built = bytes(self._data)
        return self._built

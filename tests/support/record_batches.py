"""Records as the bytes of a broker's log, made by aiokafka's own builder."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

LOG_APPEND_TIME: Final = 0x08


def record_batches(
    records: Sequence[Any], *, compression: int = 0, transactional: bool = False, producer_id: int = -1,
    append_time: bool = True, attributes: int = 0,
) -> bytes:  # fmt: skip
    """One batch of records (offset, timestamp in ms, key, value, headers), with its offsets and the broker's stamp.

    With ``append_time`` a batch has the time of its last record for all.
    """
    builder = DefaultRecordBatchBuilder(2, compression, int(transactional), producer_id, 0, 0, 1 << 30)
    first = records[0].offset
    for record in records:
        builder.append(record.offset - first, record.timestamp, record.key, record.value, list(record.headers))
    batch = bytearray(builder.build())
    batch[0:8] = struct.pack(">q", first)
    if append_time:
        attributes |= LOG_APPEND_TIME
        batch[35:43] = struct.pack(">q", records[-1].timestamp)
    batch[22] |= attributes
    batch[17:21] = struct.pack(">I", calc_crc32c(bytes(batch[21:])))
    return bytes(batch)

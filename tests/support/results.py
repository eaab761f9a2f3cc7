"""Result batches read back with aiokafka's parser of record batches, which is none of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.record.memory_records import MemoryRecords

from schemas.frame import InferenceFrame
from streams.codec import Codec
from streams.frame_effects import Answer
from streams.ready_batch import ReadyBatch
from streams.results import result_batches

Record = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


def records_of(batches: Sequence[ReadyBatch]) -> list[Record]:
    """Key, value and headers of all records; each batch's checksum, counts and offset deltas are checked."""
    records: list[Record] = []
    for ready in batches:
        reader = MemoryRecords(ready._build())
        batch: Any = reader.next_batch()
        assert batch.validate_crc()
        assert not reader.has_next()
        found = list(batch)
        assert [record.offset for record in found] == list(range(ready.record_count()))
        records += [(record.key, record.value, list(record.headers)) for record in found]
    return records


def result_records(codec: Codec, frame: InferenceFrame, completed_us: int, *, reaped: bool = False) -> list[Record]:
    """What the Validator writes for a gated frame."""
    return records_of(result_batches(codec, [Answer(frame, completed_us, reaped)]))

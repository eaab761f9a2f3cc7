"""Results from bytes by hand, for values written with our own schema: the codec's answer in a fraction of its time.

Raises on anything that does not fit, down to the last byte; the caller then asks the codec, which says what is wrong.
"""

from __future__ import annotations

from typing import Final

from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Status, Timing
from streams.avro_cursor import Cursor

_TOPIC_ID_BYTES: Final = 16
_STATUSES: Final[tuple[Status, ...]] = ("OK", "ERROR", "REJECTED", "EXPIRED")


class MisfitError(ValueError):
    """The bytes are no result in our own schema."""


def read_result(value: bytes, at: int) -> InferenceResult:
    """Result whose body begins at index ``at`` and ends with the value."""
    cursor = Cursor(value, at)
    text, long = cursor.string, cursor.long
    request_id, tenant, received_us = text(), text(), long()
    source = _source(cursor)
    status = _STATUSES[_index(cursor, len(_STATUSES))]
    error = ResultError(text(), text(), cursor.integer()) if _index(cursor, 2) else None
    model, model_version = text(), text()
    provenance = Provenance(
        text(), long(), text(), text(), long(), cursor.integer(), text(), text(), cursor.flag(1)
    )  # fmt: skip
    timing = Timing(long(), long(), long(), long())
    outputs = _tensors(cursor)
    if cursor.at != len(value):
        raise MisfitError("bytes are left over after the record")
    return InferenceResult(
        request_id, tenant, received_us, source, status, error, model, model_version, provenance, timing, outputs
    )


def _index(cursor: Cursor, below: int) -> int:
    value = cursor.long()
    if not 0 <= value < below:
        raise MisfitError("an index is out of range")
    return value


def _source(cursor: Cursor) -> Source:
    end = cursor.at + _TOPIC_ID_BYTES
    topic_id = cursor.data[cursor.at : end]
    cursor.at = end
    return Source(topic_id, cursor.integer(), cursor.long())


def _tensors(cursor: Cursor) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    while count := cursor.count():
        tensors += [Tensor(cursor.string(), cursor.string(), _shape(cursor), cursor.blob()) for _ in range(count)]
    return tuple(tensors)


def _shape(cursor: Cursor) -> tuple[int, ...]:
    axes: list[int] = []
    while count := cursor.count():
        axes += [cursor.long() for _ in range(count)]
    return tuple(axes)

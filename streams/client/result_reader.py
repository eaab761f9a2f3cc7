"""Results from bytes by hand, for values written with our own schema: the codec's answer in a fraction of its time.

Raises on anything that does not fit, down to the last byte; the caller then asks the codec, which says what is wrong.
"""

from __future__ import annotations

from typing import Final

from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Status, Timing
from streams.varint import read_long

MAX_TENSORS: Final = 1_024
MAX_AXES: Final = 64
_TOPIC_ID_BYTES: Final = 16
_INT32: Final = 1 << 31
_STATUSES: Final[tuple[Status, ...]] = ("OK", "ERROR", "REJECTED", "EXPIRED")


class MisfitError(ValueError):
    """The bytes are no result in our own schema."""


class _Cursor:
    """Walks a value; every read moves on. IndexError, EOFError or ValueError at what does not fit."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def long(self) -> int:
        byte = self.data[self.at]
        if byte < 0x80:  # most numbers take one byte
            self.at += 1
            return (byte >> 1) ^ -(byte & 1)
        value, self.at = read_long(self.data, self.at)
        return value

    def int32(self) -> int:
        value = self.long()
        if not -_INT32 <= value < _INT32:
            raise MisfitError("an int is longer than 32 bits")
        return value

    def sized(self) -> bytes:
        length, at = self.long(), self.at
        end = at + length
        if length < 0 or end > len(self.data):
            raise MisfitError("a length points past the end of the record")
        self.at = end
        return self.data[at:end]

    def text(self) -> str:
        return self.sized().decode()

    def index(self, below: int) -> int:
        value = self.long()
        if not 0 <= value < below:
            raise MisfitError("an index is out of range")
        return value

    def boolean(self) -> bool:
        byte = self.data[self.at]
        self.at += 1
        if byte > 1:
            raise MisfitError("a boolean is neither 0 nor 1")
        return byte == 1

    def block(self, most: int) -> int:
        """Number of items of an array's next block, 0 at its end; blocks with sizes are left to the codec."""
        count = self.long()
        if not 0 <= count <= most:
            raise MisfitError("an array is of another form than we write")
        return count


def read_result(value: bytes, at: int) -> InferenceResult:
    """Result whose body begins at index ``at`` and ends with the value."""
    cursor = _Cursor(value, at)
    text, long = cursor.text, cursor.long
    request_id, tenant, received_us = text(), text(), long()
    source = _source(cursor)
    status = _STATUSES[cursor.index(4)]
    error = ResultError(text(), text(), cursor.int32()) if cursor.index(2) else None
    model, model_version = text(), text()
    provenance = Provenance(
        text(), long(), text(), text(), long(), cursor.int32(), text(), text(), cursor.boolean()
    )  # fmt: skip
    timing = Timing(long(), long(), long(), long())
    outputs = _tensors(cursor)
    if cursor.at != len(value):
        raise MisfitError("bytes are left over after the record")
    return InferenceResult(
        request_id, tenant, received_us, source, status, error, model, model_version, provenance, timing, outputs
    )


def _source(cursor: _Cursor) -> Source:
    end = cursor.at + _TOPIC_ID_BYTES
    topic_id = cursor.data[cursor.at : end]
    cursor.at = end
    return Source(topic_id, cursor.int32(), cursor.long())


def _tensors(cursor: _Cursor) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    while count := cursor.block(MAX_TENSORS - len(tensors)):
        tensors += [Tensor(cursor.text(), cursor.text(), _shape(cursor), cursor.sized()) for _ in range(count)]
    return tuple(tensors)


def _shape(cursor: _Cursor) -> tuple[int, ...]:
    axes: list[int] = []
    while count := cursor.block(MAX_AXES - len(axes)):
        axes += [cursor.long() for _ in range(count)]
    return tuple(axes)

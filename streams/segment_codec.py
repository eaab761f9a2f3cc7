"""Segments of a frame to bytes and back, and the reader of Avro's primitives that a frame is read with.

Names repeat from frame to frame, so what stands for them is kept: runs of bytes that were read field by field once are
recognised as a whole. Where a run ends is guessed; only bytes that were read before confirm the guess, and equal bytes
mean equal fields that end at the same place, so nothing is checked less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from schemas.frame import Segment, TensorBlock
from schemas.quick import quick
from schemas.request import BlobRef
from streams.splice import read_from, wire_of
from streams.varint import write_long, write_string

T = TypeVar("T")

MAX_AXES: Final = 32
MAX_KEPT: Final = 4096
MAX_SIZES: Final = 8
WINDOW_BYTES: Final = 256
_END: Final = b"\x00"
_NONE: Final = b"\x00"
_SOME: Final = b"\x02"
_CACHED: Final = (b"\x00", b"\x01")
_UNEXECUTED: Final = bytes(10)
"""What stands behind the inputs of a segment that was not executed and has no blob."""
_BARE: Final = _END + _UNEXECUTED


@lru_cache(MAX_KEPT)
def _head(model: str, version: str, cohort: str) -> bytes:
    return write_string(model) + write_string(version) + write_string(cohort)


@lru_cache(MAX_KEPT)
def _origin(model_digest: str, execution_provider: str, executor: str) -> bytes:
    return write_string(model_digest) + write_string(execution_provider) + write_string(executor)


@lru_cache(MAX_KEPT)
def _signature(name: str, datatype: str, item_shape: tuple[int, ...]) -> bytes:
    axes = [write_long(length) for length in item_shape]
    shape = b"".join((write_long(len(axes)), *axes, _END)) if axes else _END
    return write_string(name) + write_string(datatype) + shape


def put_segment(parts: list[bytes | memoryview], segment: Segment) -> None:
    """Append the bytes of a segment, behind its head those that it was read from where it has them."""
    parts.append(_head(segment.model, segment.version, segment.cohort))
    wire = wire_of(segment)
    if wire is not None:
        parts.append(wire)
        return
    parts.append(write_long(segment.num_rows))
    _put_blocks(parts, segment.inputs)
    _put_blocks(parts, segment.outputs)
    parts += (
        _origin(segment.model_digest, segment.execution_provider, segment.executor),
        write_long(segment.batch_id), write_long(segment.batch_size), write_long(segment.queued_us),
        write_long(segment.run_us),
    )  # fmt: skip
    blob = segment.blob
    if blob is not None:
        parts += (_SOME, write_string(blob.digest), write_long(blob.size_bytes), _CACHED[segment.cached])
    else:
        parts += (_NONE, _CACHED[segment.cached])


def _put_blocks(parts: list[bytes | memoryview], blocks: tuple[TensorBlock, ...]) -> None:
    if blocks:
        parts.append(write_long(len(blocks)))
        for block in blocks:
            signature = _signature(block.name, block.datatype, block.item_shape)
            parts += (signature, write_long(len(block.data)), block.data)
    parts.append(_END)


class Cursor:
    """Reads primitives from ``data`` from index ``at`` on. EOFError when cut off, ValueError when out of range."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def long(self) -> int:
        """An Avro long."""
        data, at = self.data, self.at
        if at >= len(data):
            raise EOFError("the record ends inside a number")
        byte = data[at]
        at += 1
        if byte < 0x80:
            self.at = at
            return (byte >> 1) ^ -(byte & 1)
        z, shift = byte & 0x7F, 7
        while byte & 0x80:
            if at >= len(data):
                raise EOFError("the record ends inside a number")
            byte = data[at]
            at += 1
            z |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise ValueError("a number is longer than 64 bits")
        if z >> 64:
            raise ValueError("a number is longer than 64 bits")
        self.at = at
        return (z >> 1) ^ -(z & 1)

    def integer(self) -> int:
        """An Avro int."""
        number = self.long()
        if not -(1 << 31) <= number < 1 << 31:
            raise ValueError("a number is larger than 32 bits")
        return number

    def flag(self, true: int) -> bool:
        """One byte that is 0 or ``true``: a boolean, or the branch of a union of null and one more."""
        if self.at >= len(self.data):
            raise EOFError("the record ends before a flag")
        byte = self.data[self.at]
        if byte not in (0, true):
            raise ValueError("a flag is neither false nor true")
        self.at += 1
        return byte == true

    def blob(self) -> bytes:
        """Avro bytes."""
        size = self.long()
        start = self.at
        end = start + size
        if size < 0 or end > len(self.data):
            raise EOFError("a length points beyond the record")
        self.at = end
        return self.data[start:end]

    def string(self) -> str:
        """An Avro string."""
        return self.blob().decode()

    def count(self) -> int:
        """Items of the next array block; 0 ends the array. An item takes at least a byte, so the count is bounded."""
        count = self.long()
        if count == 0:
            return 0
        if count < 0:
            self.long()  # the block's size in bytes, which nothing here skips by
            count = -count
        if count > len(self.data) - self.at:
            raise ValueError("an array claims more items than the record can hold")
        return count


_HEADS: Final[dict[bytes, tuple[str, str, str]]] = {}
_SIGNATURES: Final[dict[bytes, tuple[str, str, tuple[int, ...]]]] = {}
_ORIGINS: Final[dict[bytes, tuple[str, str, str]]] = {}


@quick
@dataclass(frozen=True, slots=True)
class _Run:
    """A segment of one tensor from its first byte to that tensor's data, as it was read once.

    ``executed``: the tensor is an output and no input. ``head_bytes``: of model, version and cohort.
    """

    model: str
    version: str
    cohort: str
    head_bytes: int
    num_rows: int
    name: str
    datatype: str
    item_shape: tuple[int, ...]
    data_bytes: int
    executed: bool


_RUNS: Final[dict[bytes, _Run]] = {}
_SIZES: Final[dict[bytes, tuple[int, ...]]] = {}
"""Lengths of the runs that were seen behind a model's name."""


def read_segment(cursor: Cursor, view: memoryview) -> Segment:
    """The segment at the cursor; ``view`` is of the cursor's bytes. EOFError or ValueError when it does not fit."""
    data, at = cursor.data, cursor.at
    for size in _SIZES.get(data[at : at + 1 + (data[at] >> 1)], ()) if at < len(data) else ():
        run = _RUNS.get(data[at : at + size])
        if run is None:
            continue
        end = at + size + run.data_bytes
        block = (TensorBlock(run.name, run.datatype, run.item_shape, data[at + size : end]),)
        if run.executed:
            if end >= len(data) or data[end]:
                break
            cursor.at = end + 1
            return _ran(cursor, run.model, run.version, run.cohort, run.num_rows, (), block)
        if data.startswith(_BARE, end):
            cursor.at = end + len(_BARE)
            made = Segment(run.model, run.version, run.cohort, run.num_rows, block)
            return read_from(made, view[at + run.head_bytes : cursor.at])
    return _read_by_field(cursor, view)


def _read_by_field(cursor: Cursor, view: memoryview) -> Segment:
    start = cursor.at
    names = _strings(cursor, _HEADS)
    wire_at = cursor.at
    num_rows, inputs = cursor.integer(), _blocks(cursor)
    if cursor.data.startswith(_UNEXECUTED, cursor.at):
        _learn(cursor, start, wire_at, names, num_rows, inputs, executed=False)
        cursor.at += len(_UNEXECUTED)
        return read_from(Segment(*names, num_rows, inputs), view[wire_at : cursor.at])
    outputs = _blocks(cursor)
    if not inputs:
        _learn(cursor, start, wire_at, names, num_rows, outputs, executed=True)
    return _ran(cursor, *names, num_rows, inputs, outputs)


def _ran(
    cursor: Cursor, model: str, version: str, cohort: str, num_rows: int, inputs: tuple[TensorBlock, ...],
    outputs: tuple[TensorBlock, ...],
) -> Segment:  # fmt: skip
    """The segment whose fields behind the outputs begin at the cursor."""
    return Segment(
        model, version, cohort, num_rows, inputs, outputs, *_strings(cursor, _ORIGINS),
        cursor.long(), cursor.integer(), cursor.long(), cursor.long(),
        BlobRef(cursor.string(), cursor.long()) if cursor.flag(2) else None, cursor.flag(1),
    )  # fmt: skip


def _learn(
    cursor: Cursor, start: int, wire_at: int, names: tuple[str, str, str], num_rows: int,
    blocks: tuple[TensorBlock, ...], *, executed: bool,
) -> None:  # fmt: skip
    """Keep the run of a segment with one tensor; the cursor stands behind the end mark of its blocks."""
    if len(blocks) != 1:
        return
    (block,) = blocks
    size = cursor.at - 1 - len(block.data) - start
    name = cursor.data[start : start + 1 + (cursor.data[start] >> 1)]
    sizes = _SIZES.get(name, ())
    if size > WINDOW_BYTES or (size not in sizes and len(sizes) >= MAX_SIZES):
        return
    run = _Run(
        *names, wire_at - start, num_rows, block.name, block.datatype, block.item_shape, len(block.data), executed
    )
    _keep(_RUNS, cursor.data[start : start + size], run)
    if size not in sizes:
        _keep(_SIZES, name, (*sizes, size))


def _strings(cursor: Cursor, kept: dict[bytes, tuple[str, str, str]]) -> tuple[str, str, str]:
    """Three strings, recognised as a whole where they were read before."""
    data, start = cursor.data, cursor.at
    window, end = data[start : start + WINDOW_BYTES], 0
    try:
        for _ in range(3):
            size = window[end]
            end += 1 + (size >> 1) if size < 0x80 else 2 + (((size & 0x7F) | window[end + 1] << 7) >> 1)
    except IndexError:
        end = 0  # cut off, or too long to be kept
    found = kept.get(window[:end])
    if found is None:
        found = (cursor.string(), cursor.string(), cursor.string())
        _keep(kept, data[start : cursor.at], found)
    else:
        cursor.at = start + end
    return found


def _blocks(cursor: Cursor) -> tuple[TensorBlock, ...]:
    count = cursor.count()
    if count == 0:
        return ()
    blocks: list[TensorBlock] = []
    while count:
        blocks += [_block(cursor) for _ in range(count)]
        count = cursor.count()
    return tuple(blocks)


def _block(cursor: Cursor) -> TensorBlock:
    """A block; name, datatype and shape are recognised as a whole where they were read before."""
    data, start = cursor.data, cursor.at
    window, end = data[start : start + WINDOW_BYTES], 0
    try:
        end = 1 + (window[0] >> 1)
        end += 1 + (window[end] >> 1)
        axes = window[end] >> 1
        end += 1
        if axes:
            for _ in range(axes):
                while window[end] > 0x7F:
                    end += 1
                end += 1
            end += 1
    except IndexError:
        end = 0
    found = _SIGNATURES.get(window[:end])
    if found is None:
        found = (cursor.string(), cursor.string(), _shape(cursor))
        _keep(_SIGNATURES, data[start : cursor.at], found)
    else:
        cursor.at = start + end
    name, datatype, item_shape = found
    return TensorBlock(name, datatype, item_shape, cursor.blob())


def _shape(cursor: Cursor) -> tuple[int, ...]:
    shape: list[int] = []
    while count := cursor.count():
        if len(shape) + count > MAX_AXES:
            raise ValueError(f"a tensor has more than {MAX_AXES} axes")
        shape += [cursor.long() for _ in range(count)]
    return tuple(shape)


def _keep(kept: dict[bytes, T], run: bytes, read: T) -> None:
    """Remember what a run of bytes was read as; in a full table nothing is, but a new table."""
    if len(run) > WINDOW_BYTES:
        return
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[run] = read

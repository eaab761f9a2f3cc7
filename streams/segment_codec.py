"""Segments of a frame to bytes and back.

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
from streams.avro_cursor import Cursor
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
_PLAIN: Final = bytes(2)
"""Neither a blob nor an earlier answer."""


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


_HEADS: Final[dict[bytes, tuple[str, str, str]]] = {}
_SIGNATURES: Final[dict[bytes, tuple[str, str, tuple[int, ...]]]] = {}
_ORIGINS: Final[dict[bytes, tuple[str, str, str]]] = {}


@quick
@dataclass(frozen=True, slots=True)
class _Run:
    """A segment of one tensor from its first byte to that tensor's data, as it was read once.

    ``head_bytes``: of model, version and cohort. ``origin``: of a segment that was executed, so that the tensor is an
    output and no input, what stood behind the data: the end mark, then digest, provider and executor, as bytes and as
    strings.
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
    origin: bytes = b""
    origins: tuple[str, str, str] = ("", "", "")


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
        if run.origin:
            if not data.startswith(run.origin, end):
                break
            cursor.at = end + len(run.origin)
            return _ran(cursor, run.model, run.version, run.cohort, run.num_rows, (), block, run.origins)
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
        _learn(cursor.data, start, wire_at, cursor.at, (*names, num_rows), inputs)
        cursor.at += len(_UNEXECUTED)
        return read_from(Segment(*names, num_rows, inputs), view[wire_at : cursor.at])
    outputs, ended_at = _blocks(cursor), cursor.at
    origins = _strings(cursor, _ORIGINS)
    if not inputs:
        origin = cursor.data[ended_at - 1 : cursor.at]
        _learn(cursor.data, start, wire_at, ended_at, (*names, num_rows), outputs, origin, origins)
    return _ran(cursor, *names, num_rows, inputs, outputs, origins)


def _ran(
    cursor: Cursor, model: str, version: str, cohort: str, num_rows: int, inputs: tuple[TensorBlock, ...],
    outputs: tuple[TensorBlock, ...], origins: tuple[str, str, str],
) -> Segment:  # fmt: skip
    """The segment whose fields behind ``origins`` (digest, provider, executor) begin at the cursor."""
    batch_id, batch_size, queued_us, run_us = cursor.long(), cursor.integer(), cursor.long(), cursor.long()
    blob, cached = None, False
    if cursor.data.startswith(_PLAIN, cursor.at):
        cursor.at += len(_PLAIN)
    else:
        blob = BlobRef(cursor.string(), cursor.long()) if cursor.flag(2) else None
        cached = cursor.flag(1)
    return Segment(
        model, version, cohort, num_rows, inputs, outputs, *origins, batch_id, batch_size, queued_us, run_us, blob,
        cached,
    )  # fmt: skip


def _learn(
    data: bytes, start: int, wire_at: int, ended_at: int, head: tuple[str, str, str, int],
    blocks: tuple[TensorBlock, ...], origin: bytes = b"", origins: tuple[str, str, str] = ("", "", ""),
) -> None:  # fmt: skip
    """Keep the run of a segment with one tensor, whose data and end mark end at ``ended_at``."""
    if len(blocks) != 1:
        return
    (block,) = blocks
    size = ended_at - 1 - len(block.data) - start
    name = data[start : start + 1 + (data[start] >> 1)]
    sizes = _SIZES.get(name, ())
    if size > WINDOW_BYTES or len(origin) > WINDOW_BYTES or (size not in sizes and len(sizes) >= MAX_SIZES):
        return
    signature = (block.name, block.datatype, block.item_shape)
    run = _Run(*head[:3], wire_at - start, head[3], *signature, len(block.data), origin, origins)
    _keep(_RUNS, data[start : start + size], run)
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

"""From the rows of gated frames to batches of result records: spliced from parts, coordinate and status in headers.

What is constant for a segment (model .. timing) is encoded once; per row only id, tenant, coordinate, status and the
output bytes are added (``streams.result_rows``). The headers are those of ``streams/ledger.py``, which never decodes a
value.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.frame import InferenceFrame, RowError, TensorBlock
from schemas.result import ResultError
from streams.codec import Codec, encode_body
from streams.columns import OK, PENDING, item_bytes, item_edges, num_rows
from streams.errors import InvariantError
from streams.frame_effects import Answer
from streams.ledger import REAPED_HEADER, SOURCE, SOURCE_HEADER, STATUS_HEADER, STATUS_LETTERS
from streams.ready_batch import HEADER_BYTES, ReadyBatch
from streams.result_rows import ITEMS, MAX_FIXED, MAX_FIXED_BLOCK, NO_ERROR, NUM_COLUMNS, TENANTS, write_rows
from streams.tensors import BYTES
from streams.varint import write_long, write_string

TOPIC: Final = "inference.results"
BATCH_BYTES: Final = 1_000_000
"""A batch takes rows up to this size; a larger row is a batch by itself."""

_NO_ERROR: Final = b"\x00"
_NO_EXPERIMENT: Final = b"\x00"
_END: Final = b""
"""Encoded fields behind the outputs."""
_CACHED: Final = (b"\x00", b"\x01")
_LETTERS: Final = np.array([0, *(ord(letter) for letter in STATUS_LETTERS)], np.uint8)
_SOURCE: Final = write_string(SOURCE_HEADER) + write_long(SOURCE.size)
_STATUS: Final = write_string(STATUS_HEADER) + write_long(1)
_REAPED: Final = write_string(REAPED_HEADER) + write_long(1) + b"1"
_MOST_CACHED: Final = 4096


def result_batches(codec: Codec, answers: Sequence[Answer]) -> list[ReadyBatch]:
    """The records of all answers in their order, one per row. Raises InvariantError when a row is still pending."""
    frames = [_Rows(codec, answer) for answer in answers]
    left = sum(frame.max_bytes for frame in frames)
    batches: list[ReadyBatch] = []
    out, at, count = _room(left), HEADER_BYTES, 0
    for frame in frames:
        row = 0
        while row < frame.num_rows:
            end, at = write_rows(out, at, count, row, frame.num_rows, *frame.parts)
            if end == row and not count:  # larger than a batch
                out = np.empty(HEADER_BYTES + frame.max_bytes, np.uint8)
                end, at = write_rows(out, at, count, row, row + 1, *frame.parts)
            count, row = count + end - row, end
            if row < frame.num_rows:
                batches.append(ReadyBatch(out[:at].data, count))
                out, at, count = _room(left), HEADER_BYTES, 0
        left -= frame.max_bytes
    if count:
        batches.append(ReadyBatch(out[:at].data, count))
    return batches


def offsets_of(frame: InferenceFrame) -> NDArray[np.int64]:
    """Request offsets of a frame's rows, int64."""
    return np.frombuffer(frame.offsets, "<i8")


def _room(num_bytes: int) -> NDArray[np.uint8]:
    return np.empty(HEADER_BYTES + min(num_bytes, BATCH_BYTES), np.uint8)


class _Rows:
    """An answer as ``write_rows`` takes it; ``max_bytes``: no less than its records take."""

    def __init__(self, codec: Codec, answer: Answer) -> None:
        frame = answer.frame
        self.num_rows = num_rows(frame)
        pieces = [
            codec.prefix(TOPIC),
            frame.topic_id + write_long(frame.partition),
            _END,
            _SOURCE + frame.topic_id + frame.partition.to_bytes(4, "big"),
            _STATUS,
            _REAPED if answer.reaped else b"",
            _NO_ERROR,
            *map(write_string, frame.tenants),
        ]
        shared = sum(map(len, pieces[:TENANTS])) + max(map(len, pieces[TENANTS:]), default=0) + MAX_FIXED
        columns = np.empty((NUM_COLUMNS, self.num_rows), np.int64)
        for at, (values, dtype) in enumerate((
            (frame.offsets, "<i8"), (frame.received_us, "<i8"), (frame.statuses, "|u1"), (frame.tenant_index, "<u2"),
            (frame.row_items, "<u2"), (frame.id_lengths, "|u1"),
        )):  # fmt: skip
            columns[at] = np.frombuffer(values, dtype)
        if PENDING in frame.statuses:
            raise InvariantError("a row that is still pending has no result")
        errors = _errors(frame, pieces)
        spliced = _Segments(frame, pieces, _timing_part(frame, answer.completed_us), columns[ITEMS])
        edges = np.fromiter(accumulate(map(len, pieces), initial=0), np.int64, len(pieces) + 1)
        self.max_bytes = (
            self.num_rows * shared + 2 * len(frame.ids) + spliced.max_bytes
            + int((edges[errors + 1] - edges[errors]).sum())
        )  # fmt: skip
        self.parts = (
            columns, _array(frame.ids), _array(b"".join(pieces)), edges, _array(spliced.data), spliced.segments,
            spliced.blocks, spliced.edges, errors, _LETTERS,
        )  # fmt: skip


class _Segments:
    """The segments and output blocks of a frame; their pieces are appended to ``pieces``."""

    def __init__(self, frame: InferenceFrame, pieces: list[bytes], timing: bytes, items: NDArray[np.int64]) -> None:
        segments: list[tuple[int, ...]] = []
        blocks: list[tuple[int, ...]] = []
        parts: list[bytes] = []
        edges: list[int] = []
        sequence, size, start, row = write_long(frame.memory_sequence), 0, 0, 0
        for segment in frame.segments:
            names, cohort, end = _names(
                segment.model, segment.version, segment.model_digest, segment.cohort, segment.execution_provider,
                segment.executor, segment.cached,
            )  # fmt: skip
            segments.append((segment.num_rows, len(pieces), len(segment.outputs)))
            batch = write_long(segment.batch_id) + write_long(segment.batch_size)
            pieces.append(b"".join((names, sequence, cohort, batch, end, timing)))
            each = len(pieces[-1])
            for block in segment.outputs:
                before, after, width = _axes(block.name, block.datatype, block.item_shape)
                blocks.append((len(pieces), len(pieces) + 1, width, start, len(edges)))
                if width < 0:
                    edges += item_edges(block, int(items[row : row + segment.num_rows].sum()))
                pieces += (before, after)
                parts.append(block.data)
                start += len(block.data)
                each += len(before) + len(after) + MAX_FIXED_BLOCK
            size += segment.num_rows * each
            row += segment.num_rows
        self.segments = np.array(segments, np.int64).reshape(-1, 3)
        self.blocks = np.array(blocks, np.int64).reshape(-1, 5)
        self.edges = np.array(edges, np.int64)
        self.data = b"".join(parts)
        self.max_bytes = size + start


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data or b"\x00", np.uint8)


def _errors(frame: InferenceFrame, pieces: list[bytes]) -> NDArray[np.int64]:
    """Per row the piece that holds its error; an OK row has none whatever the frame says."""
    places = np.full(num_rows(frame), NO_ERROR, np.int64)
    for error in frame.errors:
        if frame.statuses[error.row] != OK:
            places[error.row] = len(pieces)
            pieces.append(_error_part(error))
    return places


def _error_part(error: RowError) -> bytes:
    return b"\x02" + encode_body("ResultError", ResultError(error.code, error.message, error.retry_after_ms))


def _timing_part(frame: InferenceFrame, completed_us: int) -> bytes:
    """Timing, encoded."""
    instants = (frame.admitted_us, frame.routed_us, frame.executed_us, completed_us)
    return b"".join([write_long(instant) for instant in instants])


@lru_cache(_MOST_CACHED)
def _names(
    model: str, version: str, digest: str, cohort: str, provider: str, executor: str, cached: bool
) -> tuple[bytes, bytes, bytes]:
    """Of a segment's model .. Provenance: before the memory sequence, between it and the batch, behind the batch."""
    return (
        write_string(model) + write_string(version) + write_string(digest),
        write_string(cohort) + _NO_EXPERIMENT,
        write_string(provider) + write_string(executor) + _CACHED[cached],
    )


@lru_cache(_MOST_CACHED)
def _axes(name: str, datatype: str, item_shape: tuple[int, ...]) -> tuple[bytes, bytes, int]:
    """A tensor's name, datatype and axes around its number of items, and the bytes of an item (-1: they differ)."""
    before = write_string(name) + write_string(datatype) + write_long(1 + len(item_shape))
    after = b"".join([write_long(length) for length in item_shape]) + b"\x00"
    width = -1 if datatype == BYTES else item_bytes(TensorBlock(name, datatype, item_shape, b""))
    return before, after, width

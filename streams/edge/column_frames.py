"""Frames of columnar requests, the same that ``FrameBuilder`` makes of their rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams.columns import num_rows
from streams.edge.request_batch import MAX_KEY_BYTES, RequestBatch
from streams.edge.request_columns import DATA, DATA_BYTES, ID, ID_END, ROUTING_KEY, ROUTING_KEY_END, gathered
from streams.edge.signature import Signature

MAX_BYTES: Final = 1 << 20

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class FrameHead:
    """What all frames of a tick have: topic id, partition, time in us, memory sequence."""

    topic_id: bytes
    partition: int
    now_us: int
    memory_sequence: int


def column_frames(
    batch: RequestBatch, chosen: Array, head: FrameHead, frame_id: int, *, max_bytes: int = MAX_BYTES,
    ordered: Collection[str] = (),
) -> list[InferenceFrame]:  # fmt: skip
    """Frames of some columnar records (ascending indexes, int64), each of at most ``max_bytes`` of tensor data.

    Rows of models in ``ordered`` stand in the order of their offsets: a segment for each run of equal ones.
    """
    frames: list[InferenceFrame] = []
    ends = np.cumsum(batch.parts[DATA_BYTES, chosen])
    start, before = 0, 0
    while start < len(chosen):
        stop = max(start + 1, int(np.searchsorted(ends, before + max_bytes, side="right")))
        frames.append(_frame(batch, chosen[start:stop], head, frame_id + len(frames), ordered))
        start, before = stop, int(ends[stop - 1])
    return frames


def _frame(
    batch: RequestBatch, rows: Array, head: FrameHead, frame_id: int, ordered: Collection[str]
) -> InferenceFrame:
    numbers = batch.signature[rows]
    used, firsts = np.unique(numbers, return_index=True)
    in_turn = used[np.argsort(firsts)].tolist()
    segments: dict[Any, int] = {}
    segment_of = np.empty(len(batch.signatures), np.int64)
    for number in in_turn:
        each = batch.signatures[number]
        segment_of[number] = segments.setdefault((each.model, each.version, each.heads), len(segments))
    places, heads = segment_of[numbers], list(segments)
    if ordered and len(heads) > 1:
        places, heads = _in_runs(places, heads, ordered)
    rows = rows[np.argsort(places, kind="stable")]
    counts = np.bincount(places, minlength=len(heads))
    numbers = batch.signature[rows]
    tenants, tenant_of = _tenants(batch.signatures, sorted(in_turn, key=lambda number: int(segment_of[number])))
    data, parts = batch.records.data, batch.parts
    each_of = _columns(batch.signatures)
    received_us = batch.received_us[rows]
    ids, id_ends = parts[ID, rows], parts[ID_END, rows]
    keys = parts[ROUTING_KEY, rows]
    key_ends = np.minimum(parts[ROUTING_KEY_END, rows], keys + MAX_KEY_BYTES)
    key_lengths = key_ends - keys
    return InferenceFrame(
        frame_id=frame_id,
        created_us=head.now_us,
        topic_id=head.topic_id,
        partition=head.partition,
        memory_sequence=head.memory_sequence,
        admitted_us=head.now_us,
        routed_us=0,
        executed_us=0,
        segments=_segments(batch, rows, numbers, heads, counts),
        tenants=tenants,
        errors=(),
        offsets=batch.offsets[rows].tobytes(),
        gaps=batch.gaps[rows].astype("<i4").tobytes(),
        received_us=received_us.tobytes(),
        deadlines_us=(received_us + each_of[0, numbers]).tobytes(),
        priorities=each_of[1, numbers].astype(np.uint8).tobytes(),
        statuses=bytes(len(rows)),
        roles=bytes(len(rows)),
        row_items=each_of[2, numbers].astype("<u2").tobytes(),
        tenant_index=tenant_of[numbers].tobytes(),
        id_lengths=(id_ends - ids).astype(np.uint8).tobytes(),
        ids=gathered(data, ids, id_ends),
        key_lengths=key_lengths.astype("<u2").tobytes(),
        routing_keys=gathered(data, keys, key_ends) if key_lengths.any() else b"",
    )


_Head = tuple[str, str, Any]


def _in_runs(places: Array, heads: list[_Head], ordered: Collection[str]) -> tuple[Array, list[_Head]]:
    """The segment of each row, and the segments, where a model in ``ordered`` has one for each run of its rows."""
    made: list[_Head] = []
    of: dict[int, int] = {}
    last: dict[str, int] = {}
    found: list[int] = []
    for place in places.tolist():
        head = heads[place]
        if place not in of or (head[0] in ordered and last[head[0]] != place):
            of[place] = len(made)
            made.append(head)
        last[head[0]] = place
        found.append(of[place])
    return np.array(found, np.int64), made


def _columns(signatures: Sequence[Signature]) -> Array:
    """Budget in us, priority and items of each signature."""
    return np.array([(each.timeout_us, each.priority, each.items) for each in signatures], np.int64).T


def _tenants(signatures: Sequence[Signature], in_turn: Sequence[int]) -> tuple[tuple[str, ...], Array]:
    """The tenants of some signatures in the order of these, and each signature's index into them."""
    tenants: dict[str, int] = {}
    index = np.zeros(len(signatures), "<u2")
    for number in in_turn:
        index[number] = tenants.setdefault(signatures[number].tenant, len(tenants))
    return tuple(tenants), index


def _segments(
    batch: RequestBatch, rows: Array, numbers: Array, heads: Sequence[tuple[str, str, Any]], counts: Array
) -> tuple[Segment, ...]:
    """The segments of rows that stand in their order; block k of all of them is gathered at once."""
    most = max(len(tensors) for _, _, tensors in heads)
    bounds = np.concatenate(([0], np.cumsum(counts)))
    blocks: list[list[bytes]] = []
    for k in range(most):
        if most == 1:
            starts, ends = batch.parts[DATA, rows], batch.parts[DATA + 1, rows]
        else:
            which = np.array([each.tensors[k] if k < len(each.tensors) else -1 for each in batch.signatures])[numbers]
            starts, ends = batch.parts[DATA + 2 * which, rows], batch.parts[DATA + 2 * which + 1, rows]
            starts, ends = np.where(which < 0, 0, starts), np.where(which < 0, 0, ends)
        content = gathered(batch.records.data, starts, ends)
        cuts = np.concatenate(([0], np.cumsum(ends - starts)))[bounds].tolist()
        blocks.append([content[a:b] for a, b in pairwise(cuts)])
    return tuple([
        Segment(
            model, version, "", count,
            tuple([_block(tensor, blocks[k][at]) for k, tensor in enumerate(tensors)]),
        )
        for at, ((model, version, tensors), count) in enumerate(zip(heads, counts.tolist(), strict=True))
    ])  # fmt: skip


def _block(head: tuple[str, str, tuple[int, ...]], data: bytes) -> TensorBlock:
    name, datatype, shape = head
    return TensorBlock(name, datatype, shape, data)


def joined(a: InferenceFrame, b: InferenceFrame) -> InferenceFrame:
    """One frame of the rows of two of the same tick and partition; segments stand side by side, none is merged."""
    tenants = dict.fromkeys(a.tenants) | dict.fromkeys(b.tenants)
    place = {tenant: at for at, tenant in enumerate(tenants)}
    index = np.array([place[tenant] for tenant in b.tenants], "<u2")[np.frombuffer(b.tenant_index, "<u2")]
    shift = num_rows(a)
    return replace(
        a,
        segments=a.segments + b.segments,
        tenants=tuple(tenants),
        errors=a.errors + tuple([replace(error, row=error.row + shift) for error in b.errors]),
        tenant_index=a.tenant_index + index.tobytes(),
        **{name: getattr(a, name) + getattr(b, name) for name in _ROW_COLUMNS},
    )


_ROW_COLUMNS: Final = (
    "offsets", "gaps", "received_us", "deadlines_us", "priorities", "statuses", "roles", "row_items", "id_lengths",
    "ids", "key_lengths", "routing_keys",
)  # fmt: skip

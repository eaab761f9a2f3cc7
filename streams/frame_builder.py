"""Frames out of single rows: what a reader of requests collects is cut into frames, segment by segment."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from schemas.request import BlobRef
from streams.columns import PENDING


@dataclass(slots=True)
class Row:
    """One request on its way into a frame. ``blocks``: name, datatype, item shape and bytes per input tensor.

    With a ``blob`` the bytes are empty and the blocks stand in the order of their data in the blob.
    """

    offset: int
    gap: int
    received_us: int
    deadline_us: int
    priority: int
    request_id: bytes
    tenant: str
    routing_key: bytes
    model: str
    version: str
    items: int
    blocks: tuple[tuple[str, str, tuple[int, ...], bytes], ...]
    status: int = PENDING
    error: RowError | None = None
    blob: BlobRef | None = None


@dataclass(slots=True)
class FrameBuilder:
    """Collects rows of one source partition and cuts frames of at most ``max_bytes`` of inline tensor data.

    Rows of one model, version and input signature become one segment; a row with a blob is a segment of its own.
    """

    topic_id: bytes
    partition: int
    max_bytes: int = 1 << 20
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Append a row; rows of one frame may come in any model order."""
        self.rows.append(row)

    def build(
        self, frame_id: int, now_us: int, memory_sequence: int, ordered: Collection[str] = ()
    ) -> list[InferenceFrame]:
        """Cut and build the frames of all collected rows and empty the builder.

        Rows of models in ``ordered`` stand in the order they were added: a segment for each run of equal ones.
        """
        rows, self.rows = self.rows, []
        frames: list[InferenceFrame] = []
        start, size = 0, 0
        for at, row in enumerate(rows):
            width = sum(len(block[3]) for block in row.blocks)
            if at > start and size + width > self.max_bytes:
                frames.append(self._frame(rows[start:at], frame_id + len(frames), now_us, memory_sequence, ordered))
                start, size = at, 0
            size += width
        if start < len(rows):
            frames.append(self._frame(rows[start:], frame_id + len(frames), now_us, memory_sequence, ordered))
        return frames

    def _frame(
        self, rows: list[Row], frame_id: int, now_us: int, memory_sequence: int, ordered: Collection[str]
    ) -> InferenceFrame:
        groups: dict[tuple[Any, ...], list[Row]] = {}
        runs: dict[str, tuple[Any, int]] = {}
        for row in rows:
            signature = tuple([(block[0], block[1], block[2]) for block in row.blocks])
            alone = -1 if row.blob is None else row.offset
            run = 0
            if row.model in ordered:
                last, run = runs.get(row.model, (None, 0))
                run += last != (row.version, signature, alone, row.status)
                runs[row.model] = (row.version, signature, alone, row.status), run
            groups.setdefault((row.model, row.version, signature, alone, run), []).append(row)
        segments, in_turn = [], []
        for (model, version, signature, _, _), members in groups.items():
            blocks = tuple(
                TensorBlock(name, datatype, shape, b"".join([member.blocks[at][3] for member in members]))
                for at, (name, datatype, shape) in enumerate(signature)
            )
            segments.append(Segment(model, version, "", len(members), blocks, blob=members[0].blob))
            in_turn += members
        return frame_of_rows(in_turn, segments, frame_id, now_us, self.topic_id, self.partition, memory_sequence)


def frame_of_rows(
    rows: list[Row], segments: Iterable[Segment], frame_id: int, now_us: int, topic_id: bytes, partition: int,
    memory_sequence: int,
) -> InferenceFrame:  # fmt: skip
    """A frame of rows that already stand in segment order."""
    tenants: dict[str, int] = {}
    index = [tenants.setdefault(row.tenant, len(tenants)) for row in rows]
    return InferenceFrame(
        frame_id=frame_id,
        created_us=now_us,
        topic_id=topic_id,
        partition=partition,
        memory_sequence=memory_sequence,
        admitted_us=now_us,
        routed_us=0,
        executed_us=0,
        segments=tuple(segments),
        tenants=tuple(tenants),
        errors=tuple(replace(row.error, row=at) for at, row in enumerate(rows) if row.error is not None),
        offsets=np.array([row.offset for row in rows], "<i8").tobytes(),
        gaps=np.array([row.gap for row in rows], "<i4").tobytes(),
        received_us=np.array([row.received_us for row in rows], "<i8").tobytes(),
        deadlines_us=np.array([row.deadline_us for row in rows], "<i8").tobytes(),
        priorities=bytes([row.priority for row in rows]),
        statuses=bytes([row.status for row in rows]),
        roles=bytes(len(rows)),
        row_items=np.array([row.items for row in rows], "<u2").tobytes(),
        tenant_index=np.array(index, "<u2").tobytes(),
        id_lengths=bytes([len(row.request_id) for row in rows]),
        ids=b"".join([row.request_id for row in rows]),
        key_lengths=np.array([len(row.routing_key) for row in rows], "<u2").tobytes(),
        routing_keys=b"".join([row.routing_key for row in rows]),
    )

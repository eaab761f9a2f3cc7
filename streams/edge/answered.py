"""Earlier answers again: the frames that make them the results of other coordinates. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from schemas.frame import InferenceFrame, Segment, TensorBlock
from schemas.result import InferenceResult
from streams.columns import OK
from streams.frame_builder import Row, frame_of_rows

MAX_FRAME_BYTES: Final = 1 << 20
MAX_FRAME_ROWS: Final = 500
"""Each row is a segment of its own, which costs more than a row."""


def answer_frames(
    answered: Iterable[tuple[Row, InferenceResult]], topic_id: bytes, partition: int
) -> list[InferenceFrame]:
    """Executed frames of one source partition: each row OK with the outputs and the provenance of its answer, cached.

    Timing is the rows' own: admitted now, neither routed nor executed. A frame holds answers of one memory sequence.
    """
    frames: list[InferenceFrame] = []
    groups: dict[int, list[tuple[Row, InferenceResult]]] = {}
    sizes: dict[int, int] = {}
    for row, answer in answered:
        sequence = answer.provenance.memory_sequence
        size = sum(len(each.data) for each in answer.outputs)
        group = groups.setdefault(sequence, [])
        if group and (sizes[sequence] + size > MAX_FRAME_BYTES or len(group) >= MAX_FRAME_ROWS):
            frames.append(_frame(group, topic_id, partition, sequence))
            group = groups[sequence] = []
        sizes[sequence] = (sizes[sequence] if group else 0) + size
        group.append((row, answer))
    return frames + [_frame(group, topic_id, partition, sequence) for sequence, group in groups.items()]


def _frame(
    answered: list[tuple[Row, InferenceResult]], topic_id: bytes, partition: int, sequence: int
) -> InferenceFrame:
    segments = [_segment(row, answer) for row, answer in answered]
    now_us = time.time_ns() // 1000
    return frame_of_rows([row for row, _ in answered], segments, 0, now_us, topic_id, partition, sequence)


def _segment(row: Row, answer: InferenceResult) -> Segment:
    """End the row OK and give it the answer's outputs."""
    row.status = OK
    row.items = answer.outputs[0].shape[0] if answer.outputs else row.items
    row.blocks, row.blob = (), None
    made = answer.provenance
    outputs = tuple(TensorBlock(each.name, each.datatype, each.shape[1:], each.data) for each in answer.outputs)
    return Segment(
        answer.model, answer.model_version, made.cohort, 1, (), outputs, made.model_digest, made.execution_provider,
        made.executor, made.batch_id, made.batch_size, cached=True,
    )  # fmt: skip

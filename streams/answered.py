"""An earlier answer again: the frame that makes it the result of another coordinate. Pure."""

from __future__ import annotations

import time

from schemas.frame import InferenceFrame, Segment, TensorBlock
from schemas.result import InferenceResult
from streams.columns import OK, Row, frame_of_rows


def answer_frame(row: Row, answer: InferenceResult, topic_id: bytes, partition: int) -> InferenceFrame:
    """An executed frame of one row with the outputs and the provenance of ``answer``, marked as cached.

    Its timing is its own: it was admitted now and neither routed nor executed.
    """
    row.status = OK
    row.items = answer.outputs[0].shape[0] if answer.outputs else row.items
    row.blocks, row.blob = (), None
    made = answer.provenance
    outputs = tuple(TensorBlock(each.name, each.datatype, each.shape[1:], each.data) for each in answer.outputs)
    segment = Segment(
        answer.model, answer.model_version, made.cohort, 1, (), outputs, made.model_digest, made.execution_provider,
        made.executor, made.batch_id, made.batch_size, cached=True,
    )  # fmt: skip
    now_us = time.time_ns() // 1000
    return frame_of_rows([row], [segment], 0, now_us, topic_id, partition, made.memory_sequence)

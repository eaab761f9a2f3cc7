"""An earlier answer becomes another coordinate's: outputs and provenance as they were, cached, cut into frames."""

from __future__ import annotations

from dataclasses import replace

from schemas.frame import InferenceFrame
from schemas.request import Tensor
from schemas.result import InferenceResult
from streams.codec import Codec, SchemaIds
from streams.columns import Columns, num_rows
from streams.edge.answered import MAX_FRAME_BYTES, MAX_FRAME_ROWS, answer_frames
from tests.support import samples
from tests.support.frames import TOPIC_ID, row
from tests.support.results import result_records

CODEC = Codec(SchemaIds.local())
ANSWER: InferenceResult = replace(
    samples.SAMPLES["InferenceResult"],
    status="OK",
    error=None,
    outputs=(Tensor("y", "FP32", (2, 3), bytes(range(24))), Tensor("z", "INT64", (2,), bytes(16))),
)


def results(frames: list[InferenceFrame]) -> list[InferenceResult]:
    """What the Validator writes for them."""
    return [
        CODEC.decode("inference.results", value) for frame in frames for _, value, _ in result_records(CODEC, frame, 99)
    ]


def test_the_answer_again_under_its_own_coordinate() -> None:
    mine = row(41)
    (made,) = results(answer_frames([(mine, ANSWER)], TOPIC_ID, 3))
    assert (made.source.topic_id, made.source.partition, made.source.offset) == (TOPIC_ID, 3, 41)
    assert (made.status, made.outputs, made.model, made.model_version) == (
        *("OK", ANSWER.outputs, ANSWER.model, ANSWER.model_version),
    )
    assert made.provenance == replace(ANSWER.provenance, cached=True, experiment="")
    assert made.request_id.encode() == mine.request_id
    assert (made.timing.routed_us, made.timing.executed_us, made.timing.completed_us) == (0, 0, 99)


def test_frames_are_cut_by_bytes_rows_and_memory_sequence() -> None:
    large = replace(ANSWER, outputs=(Tensor("y", "UINT8", (1, MAX_FRAME_BYTES // 2), bytes(MAX_FRAME_BYTES // 2)),))
    frames = answer_frames([(row(n), large) for n in range(5)], TOPIC_ID, 0)
    assert sorted(num_rows(frame) for frame in frames) == [1, 2, 2]
    frames = answer_frames([(row(n), ANSWER) for n in range(MAX_FRAME_ROWS + 1)], TOPIC_ID, 0)
    assert [num_rows(frame) for frame in frames] == [MAX_FRAME_ROWS, 1]
    older = replace(ANSWER, provenance=replace(ANSWER.provenance, memory_sequence=1))
    frames = answer_frames([(row(0), ANSWER), (row(1), older), (row(2), ANSWER)], TOPIC_ID, 0)
    assert {frame.memory_sequence: Columns.of(frame).offsets.tolist() for frame in frames} == {
        ANSWER.provenance.memory_sequence: [0, 2],
        1: [1],
    }
    assert answer_frames([], TOPIC_ID, 0) == []

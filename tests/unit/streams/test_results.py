"""Spliced result values are byte for byte what the codec makes of the same record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frame import InferenceFrame, RowError, TensorBlock
from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Timing
from streams.codec import Codec, SchemaIds
from streams.columns import STATUSES, Columns, items_array, request_ids, segment_starts
from streams.errors import InvariantError
from streams.frame_effects import Answer
from streams.ledger import REAPED_HEADER, STATUS_HEADER, source_of
from streams.results import BATCH_BYTES, offsets_of, result_batches
from streams.tensors import data_of, encode_texts, to_array
from tests.support.frames import TOPIC_ID, T, executed, frame, random_frame, row
from tests.support.results import records_of, result_records

TOPIC = "inference.results"
CODEC = Codec(SchemaIds.local())
DONE = T + 9


def expected(given_frame: InferenceFrame, completed_us: int) -> list[InferenceResult]:
    """The results of a frame, built the plain way."""
    columns, starts, ids = Columns.of(given_frame), segment_starts(given_frame), request_ids(given_frame)
    errors = {error.row: error for error in given_frame.errors}
    results = []
    for number, segment in enumerate(given_frame.segments):
        item = 0
        for at in range(starts[number], starts[number + 1]):
            items, status = int(columns.row_items[at]), STATUSES[columns.statuses[at]]
            outputs = tuple(
                Tensor(
                    block.name,
                    block.datatype,
                    (items, *block.item_shape),
                    data_of(items_array(block, item, items)),
                )
                for block in segment.outputs
                if status == "OK"
            )
            item += items
            error = errors.get(at) if status != "OK" else None
            results.append(
                InferenceResult(
                    ids[at].decode(),
                    given_frame.tenants[columns.tenant_index[at]],
                    int(columns.received_us[at]),
                    Source(given_frame.topic_id, given_frame.partition, int(columns.offsets[at])),
                    status,  # type: ignore[arg-type]
                    None if error is None else ResultError(error.code, error.message, error.retry_after_ms),
                    segment.model,
                    segment.version,
                    Provenance(
                        segment.model_digest,
                        given_frame.memory_sequence,
                        segment.cohort,
                        "",
                        segment.batch_id,
                        segment.batch_size,
                        segment.execution_provider,
                        segment.executor,
                        segment.cached,
                    ),
                    Timing(given_frame.admitted_us, given_frame.routed_us, given_frame.executed_us, completed_us),
                    outputs,
                )
            )
    return results


def check(given_frame: InferenceFrame) -> None:
    records = result_records(CODEC, given_frame, DONE)
    results = expected(given_frame, DONE)
    assert [value for _, value, _ in records] == [CODEC.encode(TOPIC, result) for result in results]
    assert [CODEC.decode(TOPIC, value) for _, value, _ in records] == results
    assert [key for key, _, _ in records] == [result.request_id.encode() for result in results]


def test_ok_rows() -> None:
    check(executed(3))


def test_an_earlier_answer_says_that_it_is_one() -> None:
    made = executed(2)
    check(replace(made, segments=(replace(made.segments[0], cached=True),)))


def test_several_items_per_row_and_several_outputs() -> None:
    made = executed(3, items=4)
    more = TensorBlock("label", "INT64", (), np.arange(12, dtype="<i8").tobytes())
    check(replace(made, segments=(replace(made.segments[0], outputs=(*made.segments[0].outputs, more)),)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4), st.data())
def test_texts_of_any_length(statuses: list[int], data: st.DataObject) -> None:
    rows, items = len(statuses), 2
    words = data.draw(st.lists(st.text(max_size=90), min_size=rows * items, max_size=rows * items))
    made = executed(rows, items=items)
    outputs = (
        TensorBlock("word", "BYTES", (), encode_texts(np.array(words, object))),
        *made.segments[0].outputs,
        TensorBlock("none", "BYTES", (0,), b""),
    )
    errors = tuple(RowError(at, "internal", "x") for at, status in enumerate(statuses) if status != 1)
    made = replace(
        made, statuses=bytes(statuses), errors=errors, segments=(replace(made.segments[0], outputs=outputs),)
    )
    check(made)
    for at, (_, value, _) in enumerate(result_records(CODEC, made, DONE)):
        result = CODEC.decode(TOPIC, value)
        mine = words[at * items : (at + 1) * items] if statuses[at] == 1 else []
        assert [word.decode() for tensor in result.outputs[:1] for word in to_array(tensor)] == mine


def test_errors_beside_ok_rows() -> None:
    made = executed(4, items=2)
    errors = (RowError(3, "lost", "gone"), RowError(1, "output_invalid", "NaN ünd more", 250))
    check(replace(made, statuses=bytes([1, 2, 4, 3]), errors=errors))


def test_rows_of_several_models_without_outputs() -> None:
    made = frame([row(1), row(2, model="other", tenant="acme"), row(3)])
    check(replace(made, statuses=bytes([3, 3, 4]), errors=(RowError(0, "no_plan", "x"), RowError(2, "lost", "y"))))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([1, 1, 2, 3, 4]), min_size=1, max_size=6),
    st.integers(1, 3),
    st.integers(0, 2**60),
    st.text(max_size=30).filter(lambda text: text.isprintable()),
)
def test_any_statuses(statuses: list[int], items: int, first: int, message: str) -> None:
    made = executed(len(statuses), items=items, first=first)
    errors = tuple(RowError(at, "internal", message, at) for at, status in enumerate(statuses) if status != 1)
    check(replace(made, statuses=bytes(statuses), errors=errors))


def test_headers_name_coordinate_status_and_reaping() -> None:
    made = replace(executed(2, first=77), statuses=bytes([1, 4]), errors=(RowError(1, "lost", "x"),))
    plain, reaped = result_records(CODEC, made, DONE), result_records(CODEC, made, DONE, reaped=True)
    assert [source_of(headers) for _, _, headers in plain] == [(TOPIC_ID, 1, 77), (TOPIC_ID, 1, 78)]
    assert [dict(headers)[STATUS_HEADER] for _, _, headers in plain] == [b"O", b"X"]
    assert [dict(headers).get(REAPED_HEADER) for _, _, headers in (*plain, *reaped)] == [None, None, b"1", b"1"]
    assert [value for _, value, _ in plain] == [value for _, value, _ in reaped]


def test_a_pending_row_is_a_defect() -> None:
    with pytest.raises(InvariantError, match="pending"):
        result_records(CODEC, frame([row(1)]), DONE)


def test_offsets() -> None:
    assert offsets_of(frame([row(5), row(9)])).tolist() == [5, 9]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), min_size=1, max_size=4), st.integers(1, 2**60))
def test_answers_of_several_frames_in_one_batch(drawn: list[tuple[int, bool]], completed_us: int) -> None:
    answers = []
    for seed, reaped in drawn:
        made = random_frame(seed)
        ended = replace(made, statuses=bytes([max(status, 2) for status in made.statuses]))
        answers.append(Answer(ended, completed_us, reaped))
    batches = result_batches(CODEC, answers)
    assert len(batches) == 1
    records = records_of(batches)
    assert [CODEC.decode(TOPIC, value) for _, value, _ in records] == [
        result for answer in answers for result in expected(answer.frame, completed_us)
    ]
    assert records == [
        record
        for answer in answers
        for record in result_records(CODEC, answer.frame, completed_us, reaped=answer.reaped)
    ]


def test_batches_are_cut_by_size_and_a_larger_row_stands_alone() -> None:
    third = BATCH_BYTES // 3
    frames = [executed(5, first=0), wide(3, third, first=5), wide(1, 3 * third + 9, first=8), executed(1, first=9)]
    answers = [Answer(each, DONE) for each in frames]
    batches = result_batches(CODEC, answers)
    assert [batch.record_count() for batch in batches] == [7, 1, 1, 1]
    assert [batch.size() <= BATCH_BYTES + 61 for batch in batches] == [True, True, False, True]
    assert [source_of(headers) for _, _, headers in records_of(batches)] == [(TOPIC_ID, 1, at) for at in range(10)]
    assert [value for _, value, _ in records_of(batches)] == [
        CODEC.encode(TOPIC, result) for each in frames for result in expected(each, DONE)
    ]


def wide(rows: int, num_bytes: int, *, first: int) -> InferenceFrame:
    """Rows of that many bytes of output each."""
    made = executed(rows, first=first)
    block = TensorBlock("y", "UINT8", (num_bytes,), bytes(rows * num_bytes))
    return replace(made, segments=(replace(made.segments[0], outputs=(block,)),))

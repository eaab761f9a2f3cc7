"""Frames of columns are the frames of the same requests as rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.admission import AdmissionPolicy
from schemas.frame import InferenceFrame, RowError
from schemas.model import TensorSpec
from schemas.request import InferenceRequest, Tensor
from streams.codec import Codec, SchemaIds
from streams.columns import Columns, num_rows, request_ids, routing_keys
from streams.edge.column_frames import FrameHead, column_frames, joined
from streams.edge.request_batch import RequestBatch
from streams.edge.request_reader import RequestReader
from streams.frame_builder import FrameBuilder
from streams.record_columns import RecordColumns
from tests.support.fake_kafka import record
from tests.support.frames import MODEL, TOPIC_ID, row
from tests.unit.streams.edge.test_request_batch import CODEC, Met, admit, memory

TWO = replace(MODEL, model="two", inputs=(TensorSpec("a", "INT8", (-1,)), TensorSpec("b", "FP32", (1,))))
VIEW = memory(MODEL, TWO)
HEAD = FrameHead(TOPIC_ID, 4, 77, 9)


@st.composite
def requests(draw: st.DrawFn) -> InferenceRequest:
    items = draw(st.integers(1, 2))
    if draw(st.booleans()):
        model, inputs = "digits", [Tensor("x", "FP32", (items, 2), draw(st.binary(min_size=1, max_size=1)) * 8 * items)]
    else:
        wide = draw(st.integers(0, 2))
        a = Tensor("a", "INT8", (items, wide), draw(st.binary(min_size=1, max_size=1)) * wide * items)
        model, inputs = "two", draw(st.permutations([a, Tensor("b", "FP32", (items, 1), bytes(4 * items))]))
    return InferenceRequest(
        draw(st.text("abc", min_size=1, max_size=5)), model, tuple(inputs), draw(st.sampled_from(("acme", "zoo"))),
        draw(st.sampled_from((None, "v1.0.0"))), draw(st.integers(0, 1)), draw(st.sampled_from((0, 700))),
        draw(st.sampled_from((None, "key", "k" * 300))),
    )  # fmt: skip


def batch_of(made: list[InferenceRequest]) -> RequestBatch:
    columns = RecordColumns.of(
        "t", 4, [record(CODEC.encode("inference.requests", each), 2 * at, time_ms=at) for at, each in enumerate(made)]
    )
    reader = RequestReader(CODEC, lambda request: admit(request, VIEW, AdmissionPolicy()), None, lambda: 9)
    reader._signatures._met = Met()
    return asyncio.run(reader.batch(columns, 0, [], 1 << 20))


@settings(max_examples=100, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=9), st.sets(st.integers(0, 8)), st.sampled_from((9, 17, 40, 1 << 20)))
def test_frames_are_those_of_the_rows(made: list[InferenceRequest], left_out: set[int], max_bytes: int) -> None:
    batch = batch_of(made)
    columnar = [at for at in np.flatnonzero(batch.signature >= 0).tolist() if at not in left_out]
    builder = FrameBuilder(TOPIC_ID, 4, max_bytes)
    for at in columnar:
        builder.add(batch.row(at))
    expected = builder.build(3, HEAD.now_us, HEAD.memory_sequence)
    assert column_frames(batch, np.array(columnar, np.int64), HEAD, 3, max_bytes=max_bytes) == expected


def frame(offsets: list[int], tenant: str, error: str = "") -> InferenceFrame:
    builder = FrameBuilder(TOPIC_ID, 4)
    for offset in offsets:
        each = row(offset, tenant=tenant, routing_key=f"k{offset}")
        each.error = RowError(0, error, "why") if error else None
        builder.add(each)
    return builder.build(1, 77, 9)[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=12), st.sampled_from((40, 1 << 20)))
def test_rows_of_an_ordered_model_stay_in_order_whatever_their_signatures(
    made: list[InferenceRequest], max_bytes: int
) -> None:
    batch = batch_of(made)
    chosen = np.flatnonzero(batch.signature >= 0)
    frames = column_frames(batch, chosen, HEAD, 0, max_bytes=max_bytes, ordered={"two"})
    for each in (frames, builder_frames(batch, chosen, max_bytes)):
        assert sum(num_rows(one) for one in each) == len(chosen)
        offsets = [
            offset
            for one in each
            for offset, model in zip(Columns.of(one).offsets.tolist(), models_of(one), strict=True)
            if model == "two"
        ]
        assert offsets == sorted(offsets)
    assert [Columns.of(one).offsets.tolist() for one in frames] == [
        Columns.of(one).offsets.tolist() for one in builder_frames(batch, chosen, max_bytes)
    ]


def models_of(made: InferenceFrame) -> list[str]:
    return [segment.model for segment in made.segments for _ in range(segment.num_rows)]


def builder_frames(batch: RequestBatch, chosen: np.ndarray, max_bytes: int) -> list[InferenceFrame]:
    builder = FrameBuilder(TOPIC_ID, 4, max_bytes=max_bytes)
    for at in chosen.tolist():
        builder.add(batch.row(at))
    return builder.build(0, 77, 9, {"two"})


@pytest.mark.parametrize("tenant", ["acme", "zoo"])
def test_two_frames_of_a_tick_as_one(tenant: str) -> None:
    a, b = frame([1, 5], "acme"), frame([2, 3, 9], tenant, "no_plan")
    both = joined(a, b)
    assert num_rows(both) == 5
    assert Columns.of(both).offsets.tolist() == [1, 5, 2, 3, 9]
    assert [both.tenants[at] for at in Columns.of(both).tenant_index] == ["acme", "acme", tenant, tenant, tenant]
    assert [error.row for error in both.errors] == [2, 3, 4]
    assert [segment.num_rows for segment in both.segments] == [2, 3]
    assert (request_ids(both), routing_keys(both)) == (
        request_ids(a) + request_ids(b),
        routing_keys(a) + routing_keys(b),
    )
    assert Codec(SchemaIds.local()).encode("inference.admitted", both)

"""A tick in columns beside the same tick request by request: same rows, same codes, same sentences."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.admission import AdmissionPolicy, admit
from schemas.model import ModelVersion, TensorSpec
from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.codec import Codec, SchemaIds
from streams.edge.request_reader import RequestReader
from streams.edge.request_row import input_digest
from streams.frame_builder import Row
from streams.letters.letter import Letter
from streams.record_columns import RecordColumns
from tests.support.fake_kafka import record
from tests.support.frames import MODEL, memory

CODEC = Codec(SchemaIds.local())
PAIR = replace(
    MODEL, model="pair",
    inputs=(
        TensorSpec("a", "FP32", (2,)), TensorSpec("b", "INT64", (-1,)), TensorSpec("c", "FP64", (1,), allow_nan=True),
    ),
)  # fmt: skip
HALF = replace(MODEL, model="half", inputs=(TensorSpec("h", "FP16", (3,)),), max_batch_size=2)
FLAGS = replace(MODEL, model="flags", inputs=(TensorSpec("f", "BOOL", (2,)),))
TEXTS = replace(MODEL, model="texts", inputs=(TensorSpec("s", "BYTES", (2,)),))
MODELS = (MODEL, PAIR, HALF, FLAGS, TEXTS)
VIEW = memory(*MODELS)
DTYPES = {"FP32": "<f4", "INT64": "<i8", "FP64": "<f8", "FP16": "<f2", "BOOL": "|b1"}


@st.composite
def tensor_of(draw: st.DrawFn, spec: TensorSpec, items: int) -> Tensor:
    shape = (items, *[draw(st.integers(0, 3)) if length < 0 else length for length in spec.item_shape])
    count = int(np.prod(shape))
    if spec.datatype == "BYTES":
        texts = draw(st.lists(st.sampled_from((b"", b"text", b"\xff")), min_size=count, max_size=count + 1))
        return Tensor(spec.name, "BYTES", shape, b"".join([len(text).to_bytes(4, "little") + text for text in texts]))
    numbers = np.arange(count).astype(DTYPES[spec.datatype])
    if count and spec.datatype.startswith("FP") and draw(st.integers(0, 4)) == 0:
        numbers[draw(st.integers(0, count - 1))] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
    return Tensor(spec.name, spec.datatype, shape, numbers.tobytes())


@st.composite
def requests(draw: st.DrawFn) -> InferenceRequest:
    """Mostly good ones; one in a few is spoilt in one place."""
    model: ModelVersion = draw(st.sampled_from(MODELS))
    items = draw(st.integers(1, 3))
    inputs = [draw(tensor_of(spec, items)) for spec in model.inputs]
    inputs = draw(st.permutations(inputs))
    request = InferenceRequest(
        draw(st.sampled_from(("r1", "r2", "z" * 64))), model.model, tuple(inputs),
        draw(st.sampled_from(("acme", "zoo"))),
        draw(st.sampled_from((None, None, "v1.0.0"))), draw(st.integers(0, 9)), draw(st.sampled_from((0, 700))),
        draw(st.sampled_from((None, "k", "k" * 300, "clé"))),
    )  # fmt: skip
    spoilt: list[dict[str, Any]] = [
        {}, {}, {}, {}, {"request_id": ""}, {"request_id": "é"}, {"request_id": "x" * 65}, {"tenant": "no tenant"},
        {"model": "nobody"}, {"version": "v9.9.9"}, {"version": "one"}, {"priority": 10}, {"timeout_ms": -1},
        {"timeout_ms": 10**6}, {"inputs": ()}, {"inputs": (inputs[0],) * 2},
        {"inputs": (replace(inputs[0], data=inputs[0].data + b"x"), *inputs[1:])},
        {"inputs": (replace(inputs[0], shape=()), *inputs[1:])},
        {"inputs": (replace(inputs[0], shape=(0, *inputs[0].shape[1:]), data=b""), *inputs[1:])},
        {"inputs": (replace(inputs[0], datatype="FP32"), *inputs[1:])},
        {"inputs": (replace(inputs[0], shape=(items, 1 << 40)), *inputs[1:])},
        {"blob": BlobRef("ab" * 32, 8)},
    ]  # fmt: skip
    return replace(request, **draw(st.sampled_from(spoilt)))


VALUES = st.one_of(
    requests().map(lambda request: CODEC.encode("inference.requests", request)), st.none(), st.binary(max_size=30)
)


class Met(dict[Any, None]):
    """Every signature counts as met before: it is judged at first sight."""

    def __contains__(self, _: object) -> bool:
        return True


def reader(columnar: bool) -> RequestReader:
    made = RequestReader(
        CODEC, lambda request: admit(request, VIEW, AdmissionPolicy()), None, (lambda: 1) if columnar else None
    )
    made._signatures._met = Met()
    return made


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(VALUES, st.integers(0, 2)), min_size=1, max_size=8), st.integers(0, 40))
def test_columns_and_rows_say_the_same(values: list[tuple[bytes | None, int]], blob_bytes: int) -> None:
    records, offset = [], 5
    for value, gap in values:
        records.append(record(value, offset + gap, key=b"key", time_ms=1000 + offset))
        offset += gap + 1
    columns = RecordColumns.of("t", 0, records)
    found: list[list[tuple[Row, bool]]] = []
    letters: list[list[Letter]] = [[], []]
    for columnar in (False, True):
        batch = asyncio.run(reader(columnar).batch(columns, 3, letters[columnar], blob_bytes))
        rows = [batch.rows[at] if at in batch.rows else (batch.row(at), True) for at in range(len(batch))]
        found.append(rows)
        in_columns = np.flatnonzero(batch.signature >= 0)
        assert sorted([*batch.rows, *in_columns.tolist()]) == list(range(len(values)))
        assert batch.ids(in_columns) == [rows[at][0].request_id for at in in_columns]
        assert batch.digests(in_columns) == [input_digest(rows[at][0]) for at in in_columns]
        assert batch.gaps.tolist() == [row.gap for row, _ in rows]
        assert columnar or not len(in_columns)
    assert found[0] == found[1]
    assert letters[0] == letters[1]


def test_good_requests_are_columns() -> None:
    made = [
        InferenceRequest(f"r{n}", "digits", (Tensor("x", "FP32", (1, 2), np.full(2, n, "<f4").tobytes()),))
        for n in range(9)
    ]
    columns = RecordColumns.of(
        "t", 0, [record(CODEC.encode("inference.requests", each), at) for at, each in enumerate(made)]
    )
    batch = asyncio.run(reader(True).batch(columns, 0, [], 1024))
    assert (batch.others, len(batch.signatures)) == ([], 1)
    assert batch.row(3).blocks == (("x", "FP32", (2,), made[3].inputs[0].data),)

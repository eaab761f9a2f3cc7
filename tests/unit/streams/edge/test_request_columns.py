"""The compiled reader of request values beside the codec, on requests and on spoilt ones."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.codec import Codec, SchemaIds
from streams.edge.request_columns import (
    DATA,
    DATA_BYTES,
    ID,
    ID_END,
    NUM_TENSORS,
    ROUTING_KEY,
    ROUTING_KEY_END,
    finite_rows,
    gathered,
    parts_of,
    signature_of,
)
from streams.errors import PoisonRecordError
from streams.record_columns import RecordColumns
from tests.support.fake_kafka import record

CODEC = Codec(SchemaIds.local())
PREFIX = CODEC.prefix("inference.requests")
WORDS = st.sampled_from(("a", "digits", "", "m" * 70, "Übung", "x\x7f"))


@st.composite
def requests(draw: st.DrawFn) -> InferenceRequest:
    tensors = []
    for number in range(draw(st.integers(0, 6))):
        shape = tuple(draw(st.lists(st.integers(-1, 300), max_size=3)))
        tensors.append(
            Tensor(f"x{number}", draw(st.sampled_from(("FP32", "BYTES"))), shape, draw(st.binary(max_size=40)))
        )
    return InferenceRequest(
        draw(st.text(max_size=70)), draw(WORDS), tuple(tensors), draw(WORDS), draw(st.one_of(st.none(), WORDS)),
        draw(st.integers(-(1 << 31), (1 << 31) - 1)), draw(st.sampled_from((0, 5, 30_000))),
        draw(st.one_of(st.none(), st.text(max_size=9))),
        draw(st.sampled_from((None, None, None, BlobRef("ab" * 32, 8)))),
    )  # fmt: skip


@st.composite
def usual_requests(draw: st.DrawFn) -> InferenceRequest:
    """Requests that differ in little."""
    some = st.sampled_from((1, 2))
    inputs = [
        Tensor(f"x{draw(some)}", draw(st.sampled_from(("FP32", "INT8"))), (draw(some),) * draw(some), bytes(draw(some)))
        for _ in range(draw(some))
    ]
    made = InferenceRequest(
        draw(st.sampled_from("ab")), draw(st.sampled_from("mn")), tuple(inputs), draw(st.sampled_from("tu")),
        draw(st.sampled_from((None, "v1"))), draw(some), draw(some), draw(st.sampled_from((None, "", "k"))),
    )  # fmt: skip
    assert is_usual(made)
    return made


def columns(values: list[bytes | None]) -> RecordColumns:
    return RecordColumns.of("t", 0, [record(value, at) for at, value in enumerate(values)])


def is_usual(request: InferenceRequest) -> bool:
    """Whether the reader's form is that of the request."""
    return (
        request.blob is None
        and request.request_id.isascii()
        and 1 <= len(request.request_id) <= 64
        and (request.routing_key or "").isascii()
        and 1 <= len(request.inputs) <= 4
        and all(tensor.shape for tensor in request.inputs)
    )


@settings(max_examples=80, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=6))
def test_the_parts_are_those_that_the_codec_finds(made: list[InferenceRequest]) -> None:
    batch = columns([CODEC.encode("inference.requests", each) for each in made])
    parts, groups, firsts = parts_of(batch.data, batch.table, PREFIX, 1 << 20)
    data = batch.data
    assert [group >= 0 for group in groups] == [is_usual(each) for each in made]
    for at, request in enumerate(made):
        if groups[at] < 0:
            continue
        assert data[parts[ID, at] : parts[ID_END, at]] == request.request_id.encode()
        assert data[parts[ROUTING_KEY, at] : parts[ROUTING_KEY_END, at]] == (request.routing_key or "").encode()
        assert parts[NUM_TENSORS, at] == len(request.inputs)
        assert parts[DATA_BYTES, at] == sum(len(tensor.data) for tensor in request.inputs)
        for number, tensor in enumerate(request.inputs):
            assert data[parts[DATA + 2 * number, at] : parts[DATA + 2 * number + 1, at]] == tensor.data
        first = firsts[groups[at]]
        assert signature_of(data, parts, first) == signature_of(data, parts, at)


@settings(max_examples=80, deadline=None)
@given(st.lists(usual_requests(), min_size=2, max_size=2))
def test_requests_that_differ_in_more_than_id_key_and_data_are_in_two_groups(made: list[InferenceRequest]) -> None:
    a, b = made

    def rest(request: InferenceRequest) -> InferenceRequest:
        inputs = tuple([replace(tensor, data=bytes(len(tensor.data))) for tensor in request.inputs])
        return replace(request, request_id="", routing_key=None, inputs=inputs)

    for pair in ((a, b), (a, replace(a, request_id="other", routing_key=b.routing_key))):
        batch = columns([CODEC.encode("inference.requests", each) for each in pair])
        _, groups, firsts = parts_of(batch.data, batch.table, PREFIX, 1 << 20)
        assert (groups[0] == groups[1]) == (rest(pair[0]) == rest(pair[1]))
        assert len(firsts) == len(set(groups.tolist()))


def test_what_does_not_fit_to_the_last_byte_is_left_to_the_codec() -> None:
    """Cut off, too long, or changed anywhere: whatever is accepted reads alike in the codec, or is no text there."""
    rng = random.Random(7)
    good = CODEC.encode(
        "inference.requests",
        InferenceRequest("r1", "digits", (Tensor("x", "FP32", (1, 2), bytes(8)),), version="v1.0.0", routing_key="k"),
    )
    values = [good[:size] for size in range(len(good))] + [good + b"\0"]
    for _ in range(4000):
        spoilt = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            spoilt[rng.randrange(len(spoilt))] = rng.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        values.append(bytes(spoilt))
    batch = columns([*values, None, b""])
    parts, groups, _ = parts_of(batch.data, batch.table, PREFIX, 1 << 20)
    assert groups[: len(good) + 1].tolist() == [-1] * (len(good) + 1)
    assert groups[-2:].tolist() == [-1, -1]
    num_read, reasons = 0, set()
    for at, value in enumerate(values):
        if groups[at] < 0:
            continue
        num_read += 1
        try:
            request = CODEC.decode("inference.requests", value)
        except PoisonRecordError as error:
            reasons.add(error.message)
            continue
        assert batch.data[parts[ID, at] : parts[ID_END, at]] == request.request_id.encode()
        assert [batch.data[parts[DATA, at] : parts[DATA + 1, at]]] == [tensor.data for tensor in request.inputs][:1]
    assert num_read > 100
    # Text that is none, an int of more than 32 bits: the signature's judge asks the codec too.
    assert all("utf-8" in reason or "32 bits" in reason for reason in reasons)


def test_more_data_than_may_be_is_left_to_the_codec() -> None:
    value = CODEC.encode("inference.requests", InferenceRequest("r", "m", (Tensor("x", "FP32", (1, 4), bytes(16)),)))
    batch = columns([value])
    assert [parts_of(batch.data, batch.table, PREFIX, most)[1].tolist() for most in (15, 16)] == [[-1], [0]]


def test_many_signatures_at_once() -> None:
    values = [
        CODEC.encode("inference.requests", InferenceRequest("r", "m", (Tensor("x", "FP32", (n % 400,), b""),)))
        for n in range(2000)
    ]
    batch = columns(list(values))
    parts, groups, firsts = parts_of(batch.data, batch.table, PREFIX, 99)
    assert all(
        signature_of(batch.data, parts, firsts[groups[at]]) == signature_of(batch.data, parts, at) for at in range(2000)
    )
    assert 400 <= len(firsts) < 500  # some may be split, none is joined


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=9), st.sampled_from((2, 4, 8)), st.booleans())
def test_finite_numbers_are_what_numpy_calls_finite(data: list[bytes], width: int, spoil: bool) -> None:
    if spoil:
        data[0] = np.array([np.nan, -np.inf], "<f8").tobytes()
    values = [
        CODEC.encode("inference.requests", InferenceRequest("r", "m", (Tensor("x", "FP64", (2,), each),)))
        for each in data
    ]
    batch = columns(list(values))
    parts, groups, _ = parts_of(batch.data, batch.table, PREFIX, 99)
    found = finite_rows(batch.data, parts, groups, np.array([[width, 0, 0, 0]], np.uint8))
    assert found.tolist() == [bool(np.isfinite(np.frombuffer(each, f"<f{width}")).all()) for each in data]
    assert finite_rows(batch.data, parts, groups, np.zeros((1, 4), np.uint8)).all()


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=9))
def test_spans_are_gathered_one_after_another(data: bytes, spans: list[tuple[int, int]]) -> None:
    spans = [(min(a, len(data)), max(min(a, len(data)), min(b, len(data)))) for a, b in spans]
    starts, ends = (np.array([span[side] for span in spans], np.int64) for side in (0, 1))
    assert gathered(data, starts, ends) == b"".join([data[a:b] for a, b in spans])

"""Rows from records: identity, end, and the digest of their input."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.columns import ERROR, REJECTED
from streams.edge.request_row import MAX_MESSAGE, blank_row, describe, end, input_data, input_digest, row_bytes
from streams.frame_builder import Row
from tests.support.fake_kafka import record
from tests.support.frames import row

GOOD = InferenceRequest("r1", "digits", (Tensor("x", "FP32", (1, 2), bytes(8)),))


def test_a_blank_row_knows_its_place_only() -> None:
    made = blank_row(record(b"", 7, time_ms=5), 2)
    assert (made.offset, made.gap, made.received_us, made.request_id, made.tenant) == (7, 2, 5000, b"", "default")


def test_a_row_is_described_within_what_a_result_may_hold() -> None:
    made = row(1)
    request = replace(
        GOOD, request_id="", tenant="t" * 99, model="m" * 99, version="v" * 99, priority=77, routing_key="k" * 999
    )
    describe(made, request, record(b"", 1, key=b"key"))
    assert (made.request_id, made.priority) == (b"key", 9)
    assert [len(part) for part in (made.tenant, made.model, made.version, made.routing_key)] == [64, 64, 64, 256]
    describe(made, replace(request, priority=-4, routing_key=None, version=None), record(b"", 1))
    assert (made.priority, made.routing_key, made.version) == (0, b"", "")


def test_an_ended_row_has_no_tensors_and_a_bounded_message() -> None:
    made = row(1, items=3)
    end(made, "wrong_shape", "m" * 10_000, 7)
    assert (made.status, made.items, made.blocks) == (REJECTED, 0, ())
    assert made.error is not None
    assert (made.error.code, len(made.error.message), made.error.retry_after_ms) == ("wrong_shape", MAX_MESSAGE, 7)
    end(made, "garbage", "x")
    assert made.status == ERROR


def with_input(**fields: object) -> Row:
    made = row(1)
    made.model, made.version, made.items = "digits", "", 2
    made.blocks = (("a", "FP32", (2,), bytes(16)), ("b", "INT8", (), b"\1\2"))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


OTHER_INPUTS = {
    "model": {"model": "other"},
    "version": {"version": "v1.0.0"},
    "data": {"blocks": (("a", "FP32", (2,), bytes(15) + b"\1"), ("b", "INT8", (), b"\1\2"))},
    "name": {"blocks": (("c", "FP32", (2,), bytes(16)), ("b", "INT8", (), b"\1\2"))},
    "datatype": {"blocks": (("a", "INT32", (2,), bytes(16)), ("b", "INT8", (), b"\1\2"))},
    "shape": {"blocks": (("a", "FP32", (2, 1), bytes(16)), ("b", "INT8", (), b"\1\2"))},
    "batch": {"items": 1},
}


@pytest.mark.parametrize("name", OTHER_INPUTS)
def test_another_input_has_another_digest(name: str) -> None:
    assert input_digest(with_input(**OTHER_INPUTS[name])) != input_digest(with_input())


def test_what_is_no_input_does_not_count() -> None:
    other = with_input(tenant="acme", priority=1, offset=99, deadline_us=5, routing_key=b"k", request_id=b"z")
    assert input_digest(other) == input_digest(with_input())


def test_a_blob_counts_as_its_data() -> None:
    inline = with_input()
    data = input_data(inline)
    assert (data, row_bytes(inline)) == (bytes(16) + b"\1\2", 18)
    blocks = tuple((name, datatype, shape, b"") for name, datatype, shape, _ in inline.blocks)
    stored = with_input(blocks=blocks, blob=BlobRef(sha256(data).hexdigest(), len(data)))
    assert row_bytes(stored) == 0
    assert input_digest(stored) == input_digest(inline)

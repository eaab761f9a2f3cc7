"""Spliced requests are the very bytes that the codec would write."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bench.template import Load, Rows, template
from schemas.request import InferenceRequest, Tensor
from streams.codec import encode_body

LOADS = [
    Load("bench-00"),
    Load("digits", "image", "UINT8", (64,)),
    Load("tiny", "x", "INT64", (3,)),
    Load("slow-model", "x", "FP32", (2, 8)),
    Load("double", "x", "FP64", (4,)),
    Load("small", "x", "INT32", (5,)),
]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.model)
@settings(deadline=None)  # the first example of all compiles the schema
@given(request_id=st.text(min_size=1, max_size=64).filter(lambda t: t.encode("utf-8", "replace").decode() == t))
def test_spliced_equals_encoded(load, request_id):
    row = bytes(range(256)) * (load.row_bytes // 256 + 1)
    row = row[: load.row_bytes]
    spliced = template(load, 7, timeout_ms=60_000, tenant="acme").value(request_id, row)
    tensor = Tensor(load.tensor, load.datatype, (1, *load.item_shape), row)
    whole = encode_body(
        "InferenceRequest", InferenceRequest(request_id, load.model, (tensor,), tenant="acme", timeout_ms=60_000)
    )
    assert spliced == b"\x00\x00\x00\x00\x07" + whole


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.model)
def test_rows_have_their_size_and_repeat_from_the_same_seed(load):
    rows, same = Rows(load, 3), Rows(load, 3)
    for index in (0, 1, 255, 256, 70_000):
        assert len(rows.row(index)) == load.row_bytes
        assert rows.row(index) == same.row(index)


def test_float_rows_are_all_different_and_finite():
    rows = Rows(Load("bench-00"), 1)
    taken = [rows.row(index) for index in range(20_000)]
    assert len(set(taken)) == len(taken)
    assert np.isfinite(np.frombuffer(io.BytesIO(b"".join(taken)).getvalue(), "<f4")).all()


def test_a_share_of_the_rows_repeats():
    rows = Rows(Load("bench-00", repeats=0.5), 1)
    taken = [rows.row(index) for index in range(20_180)]
    assert len(taken) - len(set(taken)) == pytest.approx(10_090, rel=0.08)


def test_large_rows_make_a_small_pool():
    rows = Rows(Load("large", item_shape=(1 << 19,)), 1)
    assert len({rows.row(index) for index in range(16)}) == 16
    assert len(rows._pool) == 8


def test_the_priority_is_in_the_request():
    spliced = template(Load("tiny", "x", "INT64", (1,), priority=9), 7).value("i", bytes(8))
    whole = encode_body(
        "InferenceRequest", InferenceRequest("i", "tiny", (Tensor("x", "INT64", (1, 1), bytes(8)),), priority=9)
    )
    assert spliced[5:] == whole


def test_garbage_is_what_nobody_can_read_and_as_long():
    row = bytes(1024)
    good, bad = (template(Load("bench-00", garbage=garbage), 7).value("r", row) for garbage in (False, True))
    assert (len(bad), bad[0]) == (len(good), 0xFF)
    assert bad[1:] == good[1:]

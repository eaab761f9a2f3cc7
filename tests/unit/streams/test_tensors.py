"""Tensors there and back."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.request import Tensor
from streams.tensors import (
    DATATYPES,
    DTYPES,
    FLOATING,
    WIRE_DTYPES,
    MalformedBytesError,
    check_texts,
    data_of,
    element_ends,
    encode_texts,
    is_finite,
    narrowed,
    prefix_end,
    texts,
    to_array,
    to_bf16,
    to_tensor,
    widened,
    wire_form,
)

WORDS = st.lists(st.text(max_size=200), max_size=6)
ARRAYS = hnp.arrays(st.sampled_from(list(DTYPES.values())), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))


@given(ARRAYS)
def test_round_trip(values):
    tensor = to_tensor("x", values)
    back = to_array(tensor)
    assert (back.dtype, back.shape, back.tobytes()) == (values.dtype, values.shape, values.tobytes())


def test_big_endian_and_strided_arrays_become_little_endian_and_row_major():
    values = np.arange(12, dtype=">i4").reshape(3, 4).T
    tensor = to_tensor("x", values)
    assert (tensor.datatype, tensor.shape) == ("INT32", (4, 3))
    assert tensor.data == values.astype("<i4").tobytes(order="C")


def test_an_array_that_has_the_form_already_is_not_copied():
    values = np.zeros((2, 3), np.float32)
    datatype, shape, same = wire_form("x", values)
    assert (datatype, shape, same is values) == ("FP32", (2, 3), True)
    assert not to_array(to_tensor("x", values)).flags.owndata


def test_types_without_a_datatype_are_refused_by_name():
    with pytest.raises(ValueError, match="input x has the type complex128, which has no Open Inference Protocol"):
        to_tensor("x", np.array([1j]))
    with pytest.raises(ValueError, match="input x: a text must be str or bytes, not int"):
        to_tensor("x", np.array([1], object))


@given(WORDS)
def test_texts_there_and_back(words):
    tensor = to_tensor("x", np.array([words], object))
    assert (tensor.datatype, tensor.shape) == ("BYTES", (1, len(words)))
    assert tensor.data == b"".join(len(w.encode()).to_bytes(4, "little") + w.encode() for w in words)
    assert [word.decode() for word in to_array(tensor).ravel()] == words
    assert texts(tensor.data, 0, (1, len(words))).tolist() == [words]
    check_texts(tensor.data, len(words))
    assert data_of(np.array(words, object)) == tensor.data


def test_every_kind_of_text_array_is_bytes():
    data = b"\x02\0\0\0ab\x01\0\0\0c"
    for values in (["ab", "c"], [b"ab", b"c"], np.array(["ab", b"c"], object)):
        assert to_tensor("x", np.array(values)) == Tensor("x", "BYTES", (2,), data)
    upside_down = np.array([["a", "b"], ["c", "d"]], object).T
    assert to_array(to_tensor("x", upside_down)).tolist() == [[b"a", b"c"], [b"b", b"d"]]


@given(WORDS, st.binary(max_size=20))
def test_ends_cut_what_was_joined(words, behind):
    data = encode_texts(np.array(words, object))
    ends = [0, *element_ends(data, len(words))]
    assert [data[low + 4 : high].decode() for low, high in itertools.pairwise(ends)] == words
    assert prefix_end(data + behind, 0, len(words)) == len(data)
    assert prefix_end(behind + data, len(behind), len(words)) == len(behind) + len(data)


@pytest.mark.parametrize(
    ("data", "count", "problem"),
    [
        (b"", 1, "element 1 of 1 ends behind the data, which has 0 bytes"),
        (b"\0\0\0\0\x05", 2, "element 2 of 2 ends behind the data, which has 5 bytes"),
        (b"\x02\0\0\0a", 1, "element 1 of 1 ends behind the data, which has 5 bytes"),
        (b"\xff\xff\xff\xff", 1, "element 1 of 1 ends behind the data, which has 4 bytes"),
        (b"\xff\xff\xff\xff\0", 2, "element 1 of 2 ends behind the data, which has 5 bytes"),
        (b"\x01\0\0\0a", 0, "5 bytes follow element 0, the shape takes 0"),
        (b"\x01\0\0\0a\0", 1, "1 bytes follow element 1, the shape takes 1"),
        (b"\x01\0\0\0\xff", 1, "element 1 of 1 is no UTF-8 text"),
    ],
)
def test_malformed_texts_are_told_what_is_wrong(data, count, problem):
    with pytest.raises(MalformedBytesError) as raised:
        check_texts(data, count)
    assert str(raised.value) == problem


@given(st.binary(max_size=24), st.integers(0, 4))
def test_any_bytes_are_texts_or_refused(data, count):
    try:
        check_texts(data, count)
    except MalformedBytesError:
        return
    assert encode_texts(texts(data, 0, (count,))) == data


def test_a_prefix_that_reaches_behind_the_data_is_refused():
    for data in (b"", b"\0\0\0", b"\x02\0\0\0a"):
        with pytest.raises(MalformedBytesError, match="1 elements reach behind the data"):
            prefix_end(data, 0, 1)


@given(hnp.arrays("<f4", hnp.array_shapes(max_dims=2, min_side=0)))
def test_bf16_is_what_ml_dtypes_makes_of_it(values):
    with np.errstate(all="ignore"):
        theirs = values.astype(ml_dtypes.bfloat16)
    tensor = to_tensor("x", theirs)
    assert (tensor.datatype, tensor.shape) == ("BF16", values.shape)
    np.testing.assert_array_equal(to_array(tensor), theirs.astype(np.float32))
    if not np.isnan(values).any():
        assert to_tensor("x", to_bf16(values)) == tensor
    finite = ~np.isnan(values)
    np.testing.assert_array_equal(narrowed(values)[finite], theirs.view("<u2")[finite])
    assert np.isnan(widened(narrowed(values))[~finite]).all()
    np.testing.assert_array_equal(is_finite("BF16", theirs.view("<u2")), np.isfinite(theirs.astype(np.float32)))


def test_every_datatype_is_listed_once():
    assert set(DATATYPES) == {*WIRE_DTYPES, "BYTES"}
    assert {"FP16", "BF16", "FP32", "FP64"} == FLOATING
    assert is_finite("FP32", np.array([1.0, np.nan, np.inf])).tolist() == [True, False, False]
    assert is_finite("INT8", np.zeros(2, np.int8)).all()

"""Tensors there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streams.tensors import DTYPES, to_array, to_tensor, wire_form

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
    datatype, same = wire_form("x", values)
    assert (datatype, same is values) == ("FP32", True)
    assert not to_array(to_tensor("x", values)).flags.owndata


def test_types_without_a_datatype_are_refused_by_name():
    with pytest.raises(ValueError, match="input words has the type <U1, which has no Open Inference Protocol datatype"):
        to_tensor("words", np.array(["a"]))

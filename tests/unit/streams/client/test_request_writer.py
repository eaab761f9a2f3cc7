"""Spliced requests are byte for byte what the codec writes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.request import BlobRef, InferenceRequest
from streams.client.request_writer import write_arrays, write_request
from streams.codec import Codec, SchemaIds
from streams.tensors import DTYPES, to_tensor

CODEC = Codec(SchemaIds.local())
PREFIX = CODEC.prefix("inference.requests")
INT32 = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
ARRAYS = hnp.arrays(st.sampled_from(list(DTYPES.values())), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "tenant": TEXT,
        "version": st.none() | TEXT,
        "priority": INT32,
        "timeout_ms": INT32,
        "routing_key": st.none() | TEXT,
        "blob": st.none() | st.builds(BlobRef, TEXT, st.integers(-(2**63), 2**63 - 1)),
    },
)


@given(TEXT, TEXT, st.dictionaries(TEXT, ARRAYS, max_size=3), OPTIONS)
def test_the_same_bytes_as_the_codec(request_id, model, inputs, options):
    tensors = tuple(to_tensor(name, values) for name, values in inputs.items())
    request = InferenceRequest(request_id, model, tensors, **options)
    expected = CODEC.encode("inference.requests", request)
    assert write_arrays(PREFIX, request_id, model, inputs, **options) == expected
    assert write_request(PREFIX, request) == expected


def test_a_strided_array_is_written_row_major():
    values = np.arange(6, dtype=">i4").reshape(2, 3).T
    request = InferenceRequest("r", "m", (to_tensor("x", values),))
    assert write_arrays(PREFIX, "r", "m", {"x": values}) == CODEC.encode("inference.requests", request)


@pytest.mark.parametrize("field", ["priority", "timeout_ms"])
def test_a_number_that_does_not_fit_is_named(field):
    with pytest.raises(ValueError, match=f"{field} is 4294967296, which does not fit 32 bits"):
        write_arrays(PREFIX, "r", "m", {}, **{field: 2**32})

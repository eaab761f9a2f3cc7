"""Reading by hand gives what the codec gives, and nothing for bytes that do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Timing
from streams.client.result_reader import read_result
from streams.codec import PREFIX_BYTES, Codec, SchemaIds
from streams.errors import PoisonRecordError
from tests.support.samples import SAMPLES

TOPIC = "inference.results"
CODEC = Codec(SchemaIds.local())
MISFITS = (ValueError, IndexError, EOFError)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
LONG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
TENSORS = st.builds(Tensor, TEXT, TEXT, st.lists(LONG, max_size=4).map(tuple), st.binary(max_size=300))
RESULTS = st.builds(
    InferenceResult,
    TEXT,
    TEXT,
    LONG,
    st.builds(Source, st.binary(min_size=16, max_size=16), INT, LONG),
    st.sampled_from(["OK", "ERROR", "REJECTED", "EXPIRED"]),
    st.none() | st.builds(ResultError, TEXT, TEXT, INT),
    TEXT,
    TEXT,
    st.builds(Provenance, TEXT, LONG, TEXT, TEXT, LONG, INT, TEXT, TEXT, st.booleans()),
    st.builds(Timing, LONG, LONG, LONG, LONG),
    st.lists(TENSORS, max_size=3).map(tuple),
)


@given(RESULTS)
def test_the_same_record_as_the_codec(result):
    value = CODEC.encode(TOPIC, result)
    assert read_result(value, PREFIX_BYTES) == CODEC.decode(TOPIC, value) == result


def read(value):
    try:
        return read_result(value, PREFIX_BYTES)
    except MISFITS:
        return None


def decode(value):
    try:
        return CODEC.decode(TOPIC, value)
    except PoisonRecordError:
        return None


@given(RESULTS, st.data())
def test_changed_bytes_are_read_as_the_codec_reads_them_or_not_at_all(result, data):
    value = bytearray(CODEC.encode(TOPIC, result))
    at = data.draw(st.integers(PREFIX_BYTES, len(value) - 1))
    value[at] = data.draw(st.integers(0, 255))
    assert read(bytes(value)) in (None, decode(bytes(value)))


def test_every_shortened_and_every_lengthened_value_is_refused():
    value = CODEC.encode(TOPIC, SAMPLES["InferenceResult"])
    for end in range(PREFIX_BYTES, len(value)):
        with pytest.raises(MISFITS):
            read_result(value[:end], PREFIX_BYTES)
    with pytest.raises(ValueError, match="left over"):
        read_result(value + b"\0", PREFIX_BYTES)

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import InferenceFrame
from streams.codec import Codec, SchemaIds, encode_body
from streams.errors import PoisonRecordError
from streams.frame_codec import decode_frame, encode_frame
from tests.support.frames import random_frame
from tests.support.samples import FRAME

BODY = encode_frame(FRAME)


def test_the_bytes_are_those_of_the_generic_codec():
    assert encode_frame(FRAME) == encode_body("InferenceFrame", FRAME)
    assert decode_frame(BODY, 0) == FRAME


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_any_frame_has_the_same_bytes_and_comes_back(seed, num_rows):
    frame = random_frame(seed, num_rows)
    body = encode_frame(frame)
    assert body == encode_body("InferenceFrame", frame)
    assert decode_frame(b"12345" + body, 5) == frame


def test_an_empty_frame():
    empty = InferenceFrame(0, 0, b"", 0, 0, 0, 0, 0, (), (), (), *([b""] * 13))
    assert encode_frame(empty) == encode_body("InferenceFrame", empty)
    assert decode_frame(encode_frame(empty), 0) == empty


@pytest.mark.parametrize("length", range(0, len(BODY), 7))
def test_a_record_cut_anywhere_is_refused(length):
    with pytest.raises((EOFError, ValueError)):
        decode_frame(BODY[:length], 0)


def test_bytes_left_over_are_refused():
    with pytest.raises(ValueError, match="left over"):
        decode_frame(BODY + b"\x00", 0)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_damaged_bytes_give_a_frame_or_poison_never_another_error(seed, flips):
    rng = random.Random(seed)
    codec = Codec(SchemaIds.local())
    damaged = bytearray(codec.encode("inference.admitted", FRAME))
    for _ in range(flips):
        damaged[rng.randrange(5, len(damaged))] = rng.randrange(256)
    frame, code = _decoded(codec, bytes(damaged))
    assert isinstance(frame, InferenceFrame) or code == "garbage"


def _decoded(codec, value):
    try:
        return codec.decode("inference.admitted", value), ""
    except PoisonRecordError as error:
        return None, error.code


def test_an_array_that_claims_more_items_than_bytes_is_refused():
    head = BODY[: BODY.index(b"\x02", 20)]
    with pytest.raises((EOFError, ValueError)):
        decode_frame(head + b"\xfe\xff\xff\xff\x0f", 0)

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import InferenceFrame
from schemas.request import BlobRef
from streams.codec import Codec, RegisteredSchema, SchemaIds, encode_body, schema_versions, subject_of
from streams.errors import PoisonRecordError
from streams.frame_codec import decode_frame, encode_frame
from streams.registry.schema_text import lint
from tests.support.frames import random_frame
from tests.support.samples import FRAME

BODY = encode_frame(FRAME)
GOLDEN = Path(__file__).parents[2] / "golden"
BLOBS = st.none() | st.builds(BlobRef, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 1 << 40))


def test_the_bytes_are_those_of_the_generic_codec():
    assert encode_frame(FRAME) == encode_body("InferenceFrame", FRAME)
    assert decode_frame(BODY, 0) == FRAME


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_any_frame_has_the_same_bytes_and_comes_back(seed, num_rows):
    frame = random_frame(seed, num_rows)
    body = encode_frame(frame)
    assert body == encode_body("InferenceFrame", frame)
    assert decode_frame(b"12345" + body, 5) == frame


@given(st.integers(0, 10_000), st.data())
def test_blobs_and_cached_segments_come_back(seed, data):
    frame = random_frame(seed, blobs=True)
    segments = [replace(each, blob=data.draw(BLOBS), cached=data.draw(st.booleans())) for each in frame.segments]
    frame = replace(frame, segments=tuple(segments))
    body = encode_frame(frame)
    assert body == encode_body("InferenceFrame", frame)
    assert decode_frame(body, 0) == frame


def test_a_frame_of_the_first_version_is_read_with_the_new_fields_at_their_defaults():
    """Written by the release before; the id stands for the old text, so the walk by both schemas reads it."""
    topic = "inference.admitted"
    local = SchemaIds.local()
    text = schema_versions("InferenceFrame")[1]
    old = RegisteredSchema(999, text, lint(text), frozenset([subject_of(topic)]))
    body = bytes.fromhex((GOLDEN / "inference_frame.v1.hex").read_text())
    codec = Codec(SchemaIds(local.write_ids, {**local.by_id, 999: old}))
    frame = codec.decode(topic, b"\x00" + (999).to_bytes(4, "big") + body)
    segments = tuple(replace(each, blob=None, cached=False) for each in FRAME.segments)
    assert frame == replace(FRAME, segments=segments, input_digests=None, attempt=0, not_before_us=0)


@pytest.mark.parametrize(("tail", "error"), [(b"\x04\x00", ValueError), (b"\x00\x02", ValueError), (b"\x00", EOFError)])
def test_only_null_or_a_reference_and_only_false_or_true(tail, error):
    bare = replace(FRAME.segments[0], blob=None, cached=False)
    body = encode_frame(replace(FRAME, segments=(bare,)))
    end = body.index(b"\x02\x0edefault") - 1  # the end of the segments' array
    assert body[end - 2 : end + 1] == b"\x00\x00\x00"
    with pytest.raises(error):
        decode_frame(body[: end - 2] + tail + (body[end:] if len(tail) == 2 else b""), 0)


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

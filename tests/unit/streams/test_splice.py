"""What is written as it was read is what would have been written field by field."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streams.codec import encode_body
from streams.frame_codec import decode_frame, encode_frame
from streams.splice import read_from, routed, served_by, wire_of
from tests.support.frames import executed, frame, random_frame, row


@given(st.integers(0, 10_000), st.integers(1, 30), st.booleans())
def test_a_spliced_frame_has_the_bytes_of_one_that_is_written_anew(seed: int, size: int, blobs: bool) -> None:
    read = decode_frame(encode_frame(random_frame(seed, size, blobs=blobs)), 0)
    segments = tuple(served_by(segment, "v7.0.0", "pinned") for segment in read.segments)
    made = routed(read, segments, 41, 1_700_000_000_000_123)
    bare = replace(made, segments=tuple(replace(segment) for segment in made.segments))
    assert wire_of(made) is not None
    assert wire_of(bare) is None
    assert all(wire_of(segment) is None for segment in bare.segments)
    assert made == bare
    assert encode_frame(made) == encode_frame(bare) == encode_body("InferenceFrame", bare)


def test_only_what_was_not_executed_is_spliced() -> None:
    read = decode_frame(encode_frame(frame([row(1), row(2, model="other")])), 0)
    assert all(wire_of(segment) is not None for segment in read.segments)
    ran = decode_frame(encode_frame(executed(2)), 0)
    assert [wire_of(segment) for segment in ran.segments] == [None]
    assert served_by(ran.segments[0], "v2", "").outputs == ()


def test_a_copy_with_other_fields_forgets_its_bytes() -> None:
    read = decode_frame(encode_frame(frame([row(1)])), 0)
    assert wire_of(replace(read, tenants=("acme",))) is None
    assert wire_of(replace(read.segments[0], num_rows=2)) is None


def test_bytes_are_no_part_of_a_record() -> None:
    segment = frame([row(1)]).segments[0]
    other = replace(segment)
    assert read_from(other, memoryview(b"x")) is other
    assert other == segment
    assert repr(other) == repr(segment)

"""What is recognised as a whole is read as it would be field by field, and nothing else is."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams import codec, segment_codec
from streams.avro_cursor import Cursor
from streams.avro_scan import compile_scan
from streams.convert import from_dict
from streams.frame_codec import decode_frame, encode_frame
from streams.segment_codec import put_segment, read_segment
from streams.splice import wire_of
from tests.support.frames import executed, frame, random_frame, row

GENERIC = codec._Reader(
    compile_scan(codec.normal_text("InferenceFrame")),
    codec.SCHEMAS["InferenceFrame"],
    None,
    from_dict(InferenceFrame),
)
PREFIX = b"\x00\x00\x00\x00\x01"
KEPT = (segment_codec._RUNS, segment_codec._SIZES, segment_codec._HEADS, segment_codec._SIGNATURES)


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    for kept in KEPT:
        kept.clear()


def written(segment: Segment) -> bytes:
    parts: list[Any] = []
    put_segment(parts, segment)
    return b"".join(parts)


def read(data: bytes, at: int = 0) -> tuple[Segment, int]:
    cursor = Cursor(data, at)
    return read_segment(cursor, memoryview(data)), cursor.at


def generic(value: bytes) -> InferenceFrame | None:
    try:
        frame: InferenceFrame = GENERIC.read(value)
    except codec._DECODE_ERRORS:
        return None
    return frame


def test_a_segment_is_the_same_the_second_time_and_at_another_place() -> None:
    for made in (*frame([row(1), row(2, model="m" * 70)]).segments, *executed(2).segments):
        data = written(made)
        assert read(data) == (made, len(data))
        assert segment_codec._RUNS
        assert read(b"xyz" + data + b"tail", 3) == (made, len(data) + 3)


def test_the_bytes_it_was_read_from_are_those_behind_its_head() -> None:
    (made,) = frame([row(1)]).segments
    data = written(made)
    for _ in range(2):
        found, _ = read(data)
        wire = wire_of(found)
        assert wire is not None
        assert data == written(replace(made, num_rows=1))
        assert data.endswith(bytes(wire))
        assert len(data) - len(wire) == len(b"\x0cdigits\x00\x00")


@pytest.mark.parametrize(
    "change",
    [{"cached": True}, {"run_us": 1}, {"executor": "e"}, {"outputs": (TensorBlock("y", "FP32", (), b"abcd"),)}],
)
def test_one_that_differs_behind_the_run_is_read_by_field(change: dict[str, Any]) -> None:
    (plain,) = frame([row(1)]).segments
    read(written(plain))
    other = replace(plain, **change)
    found, end = read(written(other))
    assert (found, end) == (other, len(written(other)))
    assert wire_of(found) is None


def test_a_run_that_is_cut_off_is_refused_as_ever() -> None:
    for made in (*frame([row(1)]).segments, *executed(2).segments):
        data = written(made)
        read(data)
        for length in range(len(data)):
            with pytest.raises((EOFError, ValueError)):
                read(data[:length])


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_codec, "MAX_KEPT", 16)
    for number in range(200):
        made = Segment(f"m{number % 40}", "v" * (number % 60), "", number, (TensorBlock("x", "INT8", (number,), b""),))
        assert read(written(made))[0] == made
        assert all(len(kept) <= 16 for kept in KEPT)
        assert all(len(sizes) <= segment_codec.MAX_SIZES for sizes in segment_codec._SIZES.values())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 50), st.integers(1, 4), st.booleans())
def test_damaged_bytes_are_read_as_the_generic_codec_reads_them_or_refused(
    seed: int, frame_seed: int, flips: int, ran: bool
) -> None:
    rng = random.Random(seed)
    sound = PREFIX + encode_frame(executed(3) if ran else random_frame(frame_seed, 6, blobs=True))
    assert decode_frame(sound, 5) == generic(sound)  # and its runs are known now
    damaged = bytearray(sound)
    for _ in range(flips):
        damaged[rng.randrange(5, len(damaged))] = rng.choice((0, 1, 2, 4, 0x7F, 0x80, rng.randrange(256)))
    try:
        found = decode_frame(bytes(damaged), 5)
    except (EOFError, ValueError):
        return
    assert found == generic(bytes(damaged))
    assert decode_frame(encode_frame(found), 0) == found

"""Sound frames pass; one that contradicts itself anywhere is told, and never breaks the check."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frame import RowError
from streams.columns import take
from streams.frame_check import fault_of
from streams.frame_codec import decode_frame, encode_frame
from tests.support.frames import executed, frame, random_frame, row, with_blob

SOUND = frame([row(1, items=2), row(2, model="other", tenant="acme", routing_key="k"), row(3)])
BLOCK = SOUND.segments[0].inputs[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_sound_frames_pass(seed: int, size: int) -> None:
    whole = random_frame(seed, size, blobs=True)
    assert fault_of(whole) == ""
    rows = sorted(random.Random(seed).sample(range(size), 1 + seed % size))
    assert fault_of(take(whole, np.array(rows, np.int64))) == ""
    assert fault_of(executed(size, items=1 + seed % 3)) == ""


def with_segment(**changes: Any) -> Any:
    return replace(SOUND, segments=(replace(SOUND.segments[0], **changes), *SOUND.segments[1:]))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (replace(SOUND, offsets=SOUND.offsets[:-1]), "offsets has not one entry per row"),
        (replace(SOUND, key_lengths=SOUND.key_lengths + b"\0\0"), "key_lengths has not"),
        (replace(SOUND, statuses=b"\0\0"), "has not one entry per row"),
        (replace(SOUND, input_digests=b"x"), "input_digests has not"),
        (replace(SOUND, ids=SOUND.ids + b"x"), "ids or routing keys"),
        (replace(SOUND, routing_keys=b""), "ids or routing keys"),
        (replace(SOUND, statuses=b"\0\x09\0"), "a status that there is not"),
        (replace(SOUND, tenants=SOUND.tenants[:1]), "a tenant that there is not"),
        (replace(SOUND, tenants=(), tenant_index=bytes(6)), "a tenant that there is not"),
        (replace(SOUND, errors=(RowError(3, "x", "y"),)), "an error names a row"),
        (replace(SOUND, errors=(RowError(-1, "x", "y"),)), "an error names a row"),
        (replace(SOUND, segments=SOUND.segments[:1]), "rows are not the frame's"),
        (replace(SOUND, segments=(*SOUND.segments, SOUND.segments[0])), "rows are not the frame's"),
        (with_segment(num_rows=0), "rows are not the frame's"),
        (with_segment(num_rows=-1), "rows are not the frame's"),
        (replace(SOUND, row_items=b"\x01\x00" * 3), "bytes, not 2 times 8"),
        (with_segment(inputs=(replace(BLOCK, data=b"1234"),)), "bytes, not 3 times 8"),
        (with_segment(inputs=(replace(BLOCK, datatype="FP7"),)), "datatype or shape that there is not"),
        (with_segment(inputs=(replace(BLOCK, item_shape=(-2,)),)), "datatype or shape that there is not"),
        (with_segment(blob=with_blob(row(1)).blob), "a blob is of more than one row"),
    ],
)
def test_a_contradiction_is_told(broken: Any, says: str) -> None:
    assert says in fault_of(broken)


def test_empty_axes_and_texts() -> None:
    assert fault_of(with_segment(inputs=(replace(BLOCK, item_shape=(0, 3), data=b""),))) == ""
    assert fault_of(with_segment(inputs=(replace(BLOCK, datatype="BYTES", data=b"anything"),))) == ""


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_damaged_frames_have_an_answer(seed: int, flips: int) -> None:
    rng = random.Random(seed)
    damaged = bytearray(encode_frame(random_frame(seed % 50, 6, blobs=True)))
    for _ in range(flips):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    try:
        found = decode_frame(bytes(damaged), 0)
    except (EOFError, ValueError):
        return
    assert isinstance(fault_of(found), str)

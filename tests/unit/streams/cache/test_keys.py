"""What an answer is cached under: equal for equal input to equal computation, different otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import Segment, TensorBlock
from schemas.model import ModelVersion, TensorSpec
from schemas.request import BlobRef
from streams.cache.keys import input_digests, row_edges, scope_of
from streams.columns import Columns
from tests.support.cached import digests_of
from tests.support.frames import MODEL, frame, row

OTHERS = (
    replace(MODEL, digest="cd" * 32),
    replace(MODEL, model="letters"),
    replace(MODEL, postprocess=("softmax",)),
    replace(MODEL, preprocess=("scale_u8",)),
    replace(MODEL, outputs=(TensorSpec("y", "FP32", (4,)),)),
)


def test_a_version_by_another_name_has_the_same_scope() -> None:
    assert scope_of(replace(MODEL, version="v2.0.0"), 1) == scope_of(MODEL, 1)


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_changes_the_answer_changes_the_scope(other: ModelVersion) -> None:
    assert scope_of(other, 1) != scope_of(MODEL, 1)


def test_another_epoch_is_another_scope() -> None:
    assert scope_of(MODEL, 2) != scope_of(MODEL, 1)


def test_rows_of_equal_input_have_one_digest_wherever_they_stand() -> None:
    first, second = frame([row(1), row(2), row(3, items=2)]), frame([row(2), row(1)])
    one, two = digests_of(first), digests_of(second)
    assert one[:16] == two[16:32]
    assert one[16:32] == two[:16]
    assert len({one[at : at + 16] for at in range(0, len(one), 16)}) == 3


def test_the_signature_and_the_number_of_items_count() -> None:
    data = bytes(16)
    blocks = (
        TensorBlock("x", "FP32", (2,), data),
        TensorBlock("z", "FP32", (2,), data),
        TensorBlock("x", "INT32", (2,), data),
        TensorBlock("x", "FP32", (1,), data),
        TensorBlock("x", "FP32", (2, 1), data),
    )
    digests = [
        input_digests(Segment("m", "", "", 1, (block,)), [2 if block.item_shape != (1,) else 4])[0] for block in blocks
    ]
    assert len(set(digests)) == len(blocks)
    empty = Segment("m", "", "", 2, (TensorBlock("x", "FP32", (0,), b""),))
    assert len(set(input_digests(empty, [1, 2]))) == 2


def test_two_inputs_are_not_told_apart_by_where_one_ends() -> None:
    def digest(a: bytes, b: bytes) -> bytes:
        blocks = (TensorBlock("a", "UINT8", (len(a),), a), TensorBlock("b", "UINT8", (len(b),), b))
        return input_digests(Segment("m", "", "", 1, blocks), [1])[0]

    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(b"ab", b"cd") != digest(b"cd", b"ab")


def test_a_blob_counts_by_its_own_digest() -> None:
    block = TensorBlock("x", "FP32", (2,), b"")
    one, other = (Segment("m", "", "", 1, (block,), blob=BlobRef(digit * 64, 8)) for digit in "ab")
    assert input_digests(one, [1]) == input_digests(one, [1])
    assert input_digests(one, [1]) != input_digests(other, [1])
    assert input_digests(one, [1]) != input_digests(one, [2])


def test_data_that_spells_a_blobs_name_is_another_input() -> None:
    name = "a" * 64
    blob = Segment("m", "", "", 1, (TensorBlock("x", "UINT8", (64,), b""),), blob=BlobRef(name, 64))
    inline = Segment("m", "", "", 1, (TensorBlock("x", "UINT8", (64,), name.encode()),))
    assert input_digests(blob, [1]) != input_digests(inline, [1])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=12))
def test_digests_are_equal_exactly_where_input_is(rows: list[tuple[int, int]]) -> None:
    built = frame([row(value, items=items) for value, items in rows])
    digests = digests_of(built)
    offsets, items = Columns.of(built).offsets.tolist(), Columns.of(built).row_items.tolist()
    inputs = list(zip(offsets, items, strict=True))
    seen = {digests[at * 16 : at * 16 + 16]: each for at, each in enumerate(inputs)}
    assert len(seen) == len(set(rows))
    assert all(seen[digests[at * 16 : at * 16 + 16]] == each for at, each in enumerate(inputs))


def test_the_edges_of_rows() -> None:
    assert row_edges(TensorBlock("x", "FP32", (2,), bytes(24)), [1, 2]) == [0, 8, 24]
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"a", b"", b"ccc"))
    assert row_edges(TensorBlock("x", "BYTES", (1,), texts), [2, 1]) == [0, 9, 16]

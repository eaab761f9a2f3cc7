"""What outputs say: scores by their place, numbers nearly, everything else exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.outputs import agreement, outputs_of
from schemas.frame import Segment, TensorBlock
from schemas.shadow import AGREES, DIFFERS, DIGEST_BYTES, EQUAL, UNKNOWN
from streams.tensors import data_of


def block(name: str, datatype: str, values: Any) -> TensorBlock:
    array = np.array(values)
    if datatype == "BF16":
        array = (array.astype("<f4").view("<u4") >> 16).astype("<u2")
    data = data_of(array.astype(object)) if datatype == "BYTES" else array.tobytes()
    return TensorBlock(name, datatype, array.shape[1:], data)


def compared(mine: list[TensorBlock], others: list[TensorBlock]) -> int:
    one, other = (outputs_of(Segment("m", "v", "", 1, (), tuple(blocks)), [(0, 1)], 1)[0] for blocks in (mine, others))
    return agreement(one, other)


def scores(*values: float) -> TensorBlock:
    return block("y", "FP32", np.array([values], "<f4"))


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        (scores(0.1, 0.9), scores(0.1, 0.9), EQUAL),
        (scores(0.1, 0.9), scores(0.4, 0.6), AGREES),
        (scores(0.1, 0.9), scores(0.6, 0.4), DIFFERS),
        (scores(0.1, 0.9), scores(0.1, 0.9, 0.0), AGREES),
        (scores(2.0), scores(2.001), AGREES),
        (scores(2.0), scores(2.1), DIFFERS),
        (block("y", "FP64", [2.0]), block("y", "FP64", [2.0001]), AGREES),
        (block("y", "FP64", [2.0]), block("y", "FP32", np.array([2.0], "<f4")), AGREES),
        (block("y", "BF16", [[1.0, 3.0]]), block("y", "BF16", [[2.0, 3.0]]), AGREES),
        (block("y", "INT64", [[7]]), block("y", "INT64", [[7]]), EQUAL),
        (block("y", "INT64", [[7]]), block("y", "INT64", [[8]]), DIFFERS),
        (block("y", "BYTES", [["cat"]]), block("y", "BYTES", [["cat"]]), EQUAL),
        (block("y", "BYTES", [["cat"]]), block("y", "BYTES", [["dog"]]), DIFFERS),
        (scores(0.1, 0.9), block("z", "FP32", np.array([[0.1, 0.9]], "<f4")), UNKNOWN),
        (scores(0.1, 0.9), block("y", "INT64", [[1]]), UNKNOWN),
    ],
)
def test_agreement(mine: TensorBlock, others: TensorBlock, expected: int) -> None:
    assert compared([mine], [others]) == expected
    assert compared([others], [mine]) == expected


def test_all_outputs_must_agree_and_their_order_does_not_matter() -> None:
    label = block("a", "INT64", [[1]])
    assert compared([scores(0.1, 0.9), label], [label, scores(0.1, 0.9)]) == EQUAL
    assert compared([scores(0.1, 0.9), label], [block("a", "INT64", [[2]]), scores(0.1, 0.9)]) == DIFFERS


def test_rows_have_their_own_items() -> None:
    values = np.array([[0, 1], [1, 0], [0, 1]], "<f4")
    segment = Segment("m", "v", "", 2, (), (block("y", "FP32", values),))
    first, second = outputs_of(segment, [(0, 2), (2, 3)], 3)
    assert len(first.digest) == DIGEST_BYTES
    assert np.frombuffer(first.said[0][3], "<i4").tolist() == [1, 0]
    assert np.frombuffer(second.said[0][3], "<i4").tolist() == [1]
    assert agreement(first, second) == UNKNOWN

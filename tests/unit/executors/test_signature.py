"""ONNX arguments become signatures, or a sentence says why not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from executors.signature import DATATYPES, blank, dtype_of, fits, signature_of
from schemas.model import TensorSpec
from streams import tensors


def argument(kind: str, *shape: object) -> SimpleNamespace:
    return SimpleNamespace(name="x", type=kind, shape=list(shape))


def test_every_served_datatype_has_its_onnx_type() -> None:
    assert sorted(DATATYPES.values()) == sorted(tensors.DATATYPES)


def test_the_batch_is_left_out_and_names_are_free_axes() -> None:
    found = signature_of([argument("tensor(float16)", "n", "m", None, 3)])
    assert found == (TensorSpec("x", "FP16", (-1, -1, 3)),)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (argument("tensor(complex64)", "n"), r"`x` has the type tensor\(complex64\), which is not served"),
        (argument("seq(tensor(float))", "n"), "which is not served"),
        (argument("tensor(float)", 4, 3), "its first axis must be free"),
        (argument("tensor(float)"), "its first axis must be free"),
    ],
)
def test_what_is_not_served(given: SimpleNamespace, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        signature_of([given])


def test_fits() -> None:
    spec = TensorSpec("x", "FP32", (-1, 3))
    assert fits(spec, (0, 3))
    assert not fits(spec, (3,))
    assert not fits(spec, (3, 4))


def test_blanks_are_batches_that_cannot_be_written() -> None:
    texts, halves = (blank(TensorSpec("x", datatype, (-1, 2)), 3) for datatype in ("BYTES", "BF16"))
    assert texts.tolist() == [[["", ""]]] * 3
    assert (halves.shape, halves.dtype) == ((3, 1, 2), np.uint16)
    assert not texts.flags.writeable
    assert not halves.flags.writeable
    assert (dtype_of("BYTES"), dtype_of("BF16"), dtype_of("FP32")) == (np.dtype(object), np.uint16, np.float32)

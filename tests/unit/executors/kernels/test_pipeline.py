"""Kernels are read, checked and chained; the signature function tells what they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from executors.kernels.image import IMAGE
from executors.kernels.kernel import KernelError
from executors.kernels.pipeline import KERNELS, Pipeline, parse, signature_after, signatures, warm
from schemas.model import TensorSpec
from streams.tensors import WIRE_DTYPES


def setup_module() -> None:
    warm()  # so that no test pays the compiler


def test_signatures_of_a_classifier() -> None:
    logits = (TensorSpec("logits", "FP32", (10,)),)
    best = (TensorSpec("classes", "INT64", (3,)), TensorSpec("scores", "FP32", (3,)))
    assert signatures(logits, ("softmax", "top_k:3")) == (logits, logits, best)
    assert signature_after(logits, ("softmax", "top_k:3")) == best
    assert signature_after(logits, ()) == logits


def test_a_step_names_its_tensor_among_several() -> None:
    specs = (TensorSpec("a", "FP32", (2,)), TensorSpec("b", "FP32", (-1, 3)))
    assert signature_after(specs, ("threshold:1@b",))[1] == TensorSpec("b", "BOOL", (-1, 3))
    with pytest.raises(KernelError, match="say which tensor with @name, one of: a, b"):
        signature_after(specs, ("softmax",))
    with pytest.raises(KernelError, match="makes two tensors of one name"):
        signature_after((specs[0], TensorSpec("class", "FP32", (2,))), ("argmax@a",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown; known are argmax, image_to_float, one_hot"),
        ("nothing", "unknown"),
        ("top_k", "is written top_k:k, 0 numbers are given"),
        ("top_k:x", "what follows the colon must be numbers: top_k:k"),
        ("top_k:nan", "its numbers must be finite"),
        ("softmax:1", "is written softmax, 1 numbers are given"),
        ("scale_u8", "reads UINT8, `logits` is FP32"),
        ("standardise:1", "is written standardise:mean,...,deviation,..., 1 numbers are given"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, words: str) -> None:
    with pytest.raises(KernelError, match=words):
        signature_after((TensorSpec("logits", "FP32", (10,)),), (text,))


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_pipeline_makes_what_the_signature_says(name: str, reuse: bool) -> None:
    kernel = KERNELS[name]
    text = f"{name}:{','.join(['1'] * kernel.required)}" if kernel.required else name
    for datatype in kernel.datatypes:
        spec = TensorSpec("x", datatype, (4, 4, 4) if kernel in IMAGE else (4,))
        x = np.ones((3, *spec.item_shape), WIRE_DTYPES[datatype])
        x.flags.writeable = False
        out = Pipeline((spec,), (text,), reuse=reuse).run({"x": x}, owned=True)
        for made in signature_after((spec,), (text,)):
            assert out[made.name].shape == (3, *made.item_shape)
            assert out[made.name].dtype == WIRE_DTYPES[made.datatype]


def test_a_chain_leaves_the_callers_array_alone() -> None:
    x = np.array([[3.0, 1.0]], np.float32)
    chain = Pipeline((TensorSpec("x", "FP32", (2,)),), ("softmax", "standardise:0,1"))
    chain.run({"x": x}, owned=False)
    assert x.tolist() == [[3.0, 1.0]]
    assert chain.run({"x": x}, owned=True)["x"] is x


def test_arrays_are_new_unless_they_are_reused() -> None:
    spec, x = TensorSpec("x", "UINT8", (2,)), np.array([[2, 4], [6, 8]], np.uint8)
    fresh, reused = (Pipeline((spec,), ("scale_u8:2",), reuse=reuse) for reuse in (False, True))
    first = fresh.run({"x": x}, owned=False)["x"]
    assert fresh.run({"x": x * 2}, owned=False)["x"] is not first
    assert first.tolist() == [[1, 2], [3, 4]]
    held = reused.run({"x": x}, owned=False)["x"]
    smaller = reused.run({"x": x[:1] * 2}, owned=False)["x"]
    assert np.shares_memory(held, smaller)
    assert smaller.tolist() == [[2, 4]]
    larger = reused.run({"x": np.repeat(x, 3, 0)}, owned=False)["x"]
    assert larger.shape == (6, 2)


def test_parse_fills_defaults() -> None:
    assert parse("scale_u8").numbers == (255.0,)
    assert parse("scale_u8:16").numbers == (16.0,)
    assert parse("threshold@y").tensor == "y"


def test_other_tensors_pass_by() -> None:
    specs = (TensorSpec("a", "FP32", (2,)), TensorSpec("word", "BYTES", ()))
    word = np.array(["x"], object)
    out = Pipeline(specs, ("softmax@a",)).run({"a": np.zeros((1, 2), np.float32), "word": word}, owned=False)
    assert out["word"] is word


def test_every_kernel_stands_in_the_readme() -> None:
    readme = (Path(__file__).parents[4] / "README.md").read_text(encoding="utf-8")
    assert [name for name in KERNELS if f"`{name}" not in readme] == []

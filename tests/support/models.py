"""Tiny ONNX models for tests: what they compute is said in one line each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnxruntime
from onnx import TensorProto

from executors.model_store import digest_of
from executors.runtime import CPU, session_options
from schemas.model import ModelVersion, TensorSpec

OPSET = 17
IR_VERSION = 8


def build(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], initializers: Sequence[Any] = (),
    *, ml: bool = False,
) -> bytes:  # fmt: skip
    """Serialise a graph with the opset and IR version that every runtime here reads; ``ml``: and ai.onnx.ml."""
    graph = oh.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    model: bytes = oh.make_model(
        graph,
        opset_imports=[oh.make_opsetid("", OPSET), *([oh.make_opsetid("ai.onnx.ml", 3)] if ml else [])],
        ir_version=IR_VERSION,
    ).SerializeToString()
    return model


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return oh.make_tensor_value_info(name, kind, list(shape))


def identity(width: int = 4) -> bytes:
    """FP32: y = x, with x and y [n, width]."""
    return build([oh.make_node("Identity", ["x"], ["y"])], [value("x", "n", width)], [value("y", "n", width)])


def mlp(dims: Sequence[int] = (4, 8, 3), seed: int = 0) -> bytes:
    """Gemm and Relu layers of the given widths, x [n, dims[0]] to y [n, dims[-1]], FP32, seeded."""
    random = np.random.default_rng(seed)
    nodes, weights, current = [], [], "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(dims)):
        last = layer == len(dims) - 2
        weights.append(nh.from_array(random.standard_normal((rows, columns)).astype(np.float32), f"w{layer}"))
        weights.append(nh.from_array(random.standard_normal(columns).astype(np.float32), f"b{layer}"))
        nodes.append(oh.make_node("Gemm", [current, f"w{layer}", f"b{layer}"], ["y" if last else f"g{layer}"]))
        if not last:
            nodes.append(oh.make_node("Relu", [f"g{layer}"], [f"r{layer}"]))
        current = f"r{layer}"
    return build(nodes, [value("x", "n", dims[0])], [value("y", "n", dims[-1])], weights)


def nan(width: int = 4) -> bytes:
    """FP32: y = log(x): NaN for a negative element, -inf for 0."""
    return build([oh.make_node("Log", ["x"], ["y"])], [value("x", "n", width)], [value("y", "n", width)])


def free_axis() -> bytes:
    """FP32: y [n] = the sum of x [n, any length]."""
    axes = nh.from_array(np.array([1], np.int64), "axes")
    node = oh.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    return build([node], [value("x", "n", "m")], [value("y", "n")], [axes])


def divides() -> bytes:
    """INT64: y = x / (d + 1), all [n, 1]. The least number by -1 is no number: on x86 the process dies of SIGFPE."""
    columns = [value(name, "n", 1, kind=TensorProto.INT64) for name in ("x", "d", "y")]
    one = nh.from_array(np.ones(1, np.int64), "one")
    nodes = [oh.make_node("Add", ["d", "one"], ["by"]), oh.make_node("Div", ["x", "by"], ["y"])]
    return build(nodes, columns[:2], columns[2:], [one])


def hungry(width: int = 4) -> bytes:
    """``y = x``, beside which it needs as many floats of memory as the largest number in the batch says."""
    nodes = [
        oh.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        oh.make_node("Cast", ["largest"], ["whole"], to=TensorProto.INT64),
        oh.make_node("Reshape", ["whole", "one"], ["count"]),
        oh.make_node("ConstantOfShape", ["count"], ["zeros"]),
        oh.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        oh.make_node("Add", ["x", "zero"], ["y"]),
    ]
    one = nh.from_array(np.array([1], np.int64), "one")
    return build(nodes, [value("x", "n", width)], [value("y", "n", width)], [one])


def picks() -> bytes:
    """FP32 y [n, 1] is the number at place x INT64 [n, 1] of a list of three; another place is an invalid argument."""
    numbers = nh.from_array(np.array([1, 2, 3], np.float32), "numbers")
    node = oh.make_node("Gather", ["numbers", "x"], ["y"])
    return build([node], [value("x", "n", 1, kind=TensorProto.INT64)], [value("y", "n", 1)], [numbers])


def slow(ms: float, width: int = 4) -> bytes:
    """FP32: y = x, after a loop of square matrix products that takes about ``ms`` on this machine, whatever n is."""
    one_round = _loop(1, width)
    rounds = max(1, round(ms / _round_ms(one_round, width)))
    return _loop(rounds, width)


def slow_rounds(rounds: int, width: int = 4) -> bytes:
    """FP32: y = x, after ``rounds`` products of 192 x 192 matrices."""
    return _loop(rounds, width)


def _loop(rounds: int, width: int, side: int = 192) -> bytes:
    square = nh.from_array((np.eye(side) * 0.5).astype(np.float32), "square")
    trips = nh.from_array(np.array(rounds, np.int64), "trips")
    zero = nh.from_array(np.zeros(1, np.float32), "zero")
    axes = nh.from_array(np.array([0, 1], np.int64), "axes")
    # The loop starts from a value of the input, or constant folding would run it once at load.
    body = oh.make_graph(
        [oh.make_node("MatMul", ["carried", "square"], ["next"]), oh.make_node("Identity", ["going"], ["still"])],
        "body",
        [value("i", kind=TensorProto.INT64), value("going", kind=TensorProto.BOOL), value("carried", side, side)],
        [value("still", kind=TensorProto.BOOL), value("next", side, side)],
    )
    nodes = [
        oh.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
        oh.make_node("Mul", ["total", "zero"], ["nothing"]),
        oh.make_node("Add", ["square", "nothing"], ["first"]),
        oh.make_node("Loop", ["trips", "", "first"], ["end"], body=body),
        oh.make_node("ReduceMax", ["end"], ["peak"], keepdims=0),
        oh.make_node("Mul", ["peak", "zero"], ["none"]),
        oh.make_node("Add", ["x", "none"], ["y"]),
    ]
    return build(nodes, [value("x", "n", width)], [value("y", "n", width)], [square, trips, zero, axes])


def _round_ms(blob: bytes, width: int) -> float:
    """Time of one more round of the loop: the slope between 1 and 33 rounds."""
    return max((_best_ms(_loop(33, width), width) - _best_ms(blob, width)) / 32, 1e-3)


def _best_ms(blob: bytes, width: int) -> float:
    session = onnxruntime.InferenceSession(blob, session_options(), providers=[CPU])
    x, best = np.zeros((1, width), np.float32), 1e9
    for _ in range(7):
        start = time.perf_counter()
        session.run(None, {"x": x})
        best = min(best, (time.perf_counter() - start) * 1000)
    return best


def version_of(
    blob: bytes,
    inputs: Sequence[TensorSpec] = (TensorSpec("x", "FP32", (4,)),),
    outputs: Sequence[TensorSpec] = (TensorSpec("y", "FP32", (4,)),),
    preprocess: Sequence[str] = (),
    postprocess: Sequence[str] = (),
    max_batch_size: int = 128,
    name: str = "model",
    version: str = "v1.0.0",
) -> ModelVersion:
    """The facts of a registered version of ``blob``; by default FP32 [4] in and out."""
    return ModelVersion(
        name, version, digest_of(blob), len(blob), tuple(inputs), tuple(outputs),
        tuple(preprocess), tuple(postprocess), max_batch_size,
    )  # fmt: skip


KINDS = {
    "BOOL": TensorProto.BOOL, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE, "BYTES": TensorProto.STRING,
}  # fmt: skip
"""ONNX element types by the datatypes that are served."""


def echo(*datatypes: str, shape: Sequence[int | str] = ("m",)) -> bytes:
    """``y<i>`` = ``x<i>``, one pair per datatype, all [n, *shape]; the letters of ``shape`` are free axes."""
    nodes = [oh.make_node("Identity", [f"x{at}"], [f"y{at}"]) for at in range(len(datatypes))]
    sides = [
        [value(f"{side}{at}", "n", *shape, kind=KINDS[datatype]) for at, datatype in enumerate(datatypes)]
        for side in "xy"
    ]
    return build(nodes, *sides)


def doubled_bf16(width: int = 2) -> bytes:
    """BF16 y = x + x, [n, width], through FP32."""
    nodes = [
        oh.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        oh.make_node("Add", ["wide", "wide"], ["sum"]),
        oh.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16),
    ]
    kind = TensorProto.BFLOAT16
    return build(nodes, [value("x", "n", width, kind=kind)], [value("y", "n", width, kind=kind)])


def words(names: Sequence[str] = ("cat", "dog")) -> bytes:
    """Texts in and out: ``label`` INT64 [n] is the place of ``word`` BYTES [n] in ``names`` (-1: not there).

    ``back`` BYTES [n] is that name again, ``?`` where there is none.
    """
    keys, places = list(names), list(range(len(names)))
    nodes = [
        oh.make_node(
            "LabelEncoder", ["word"], ["label"], domain="ai.onnx.ml",
            keys_strings=keys, values_int64s=places, default_int64=-1,
        ),
        oh.make_node(
            "LabelEncoder", ["label"], ["back"], domain="ai.onnx.ml",
            keys_int64s=places, values_strings=keys, default_string="?",
        ),
    ]  # fmt: skip
    outputs = [value("label", "n", kind=TensorProto.INT64), value("back", "n", kind=TensorProto.STRING)]
    return build(nodes, [value("word", "n", kind=TensorProto.STRING)], outputs, ml=True)


def sums() -> bytes:
    """Of a FP32 [n, 3] and b INT8 [n, m]: ``total`` INT32 [n] of each row of b, ``sum`` = a + total, ``b2`` = b."""
    axes = nh.from_array(np.array([1], np.int64), "axes")
    nodes = [
        oh.make_node("Cast", ["b"], ["wide"], to=TensorProto.INT32),
        oh.make_node("ReduceSum", ["wide", "axes"], ["column"], keepdims=1),
        oh.make_node("Squeeze", ["column", "axes"], ["total"]),
        oh.make_node("Cast", ["column"], ["real"], to=TensorProto.FLOAT),
        oh.make_node("Add", ["a", "real"], ["sum"]),
        oh.make_node("Identity", ["b"], ["b2"]),
    ]
    inputs = [value("a", "n", 3), value("b", "n", "m", kind=TensorProto.INT8)]
    outputs = [
        value("sum", "n", 3), value("total", "n", kind=TensorProto.INT32), value("b2", "n", "m", kind=TensorProto.INT8)
    ]  # fmt: skip
    return build(nodes, inputs, outputs, [axes])


def conv(classes: int = 5, side: int = 8, seed: int = 0) -> bytes:
    """``logits`` FP32 [n, classes] of ``image`` FP32 [n, 3, side, side]: 3x3 convolution, Relu, mean, product."""
    random = np.random.default_rng(seed)
    weights = [
        nh.from_array(random.standard_normal((4, 3, 3, 3)).astype(np.float32), "kernel"),
        nh.from_array(random.standard_normal((4, classes)).astype(np.float32), "head"),
    ]
    nodes = [
        oh.make_node("Conv", ["image", "kernel"], ["mapped"], pads=[1, 1, 1, 1]),
        oh.make_node("Relu", ["mapped"], ["cut"]),
        oh.make_node("GlobalAveragePool", ["cut"], ["mean"]),
        oh.make_node("Flatten", ["mean"], ["flat"]),
        oh.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    return build(nodes, [value("image", "n", 3, side, side)], [value("logits", "n", classes)], weights)

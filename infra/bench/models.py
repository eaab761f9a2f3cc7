"""The benchmarks' models: seeded MLPs 256-512-512-10 in FP32, slow ones of a chosen time per row, sums, images."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
from onnx import TensorProto

from executors.model_store import digest_of
from infra.bench.template import Load
from schemas.model import ModelVersion, TensorSpec

DIMS: Final = (256, 512, 512, 10)
OPSET: Final = 17
IR_VERSION: Final = 8
VERSION: Final = "v1.0.0"
SIDE: Final = 96
"""Width of the matrices that a slow model multiplies."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model to serve: its file, the facts to register it with, and the requests it gets."""

    blob: bytes
    facts: ModelVersion
    load: Load


def mlp(seed: int, dims: Sequence[int] = DIMS) -> bytes:
    """Serialised ONNX: Gemm and Relu layers, x FP32 [n, dims[0]] to y FP32 [n, dims[-1]]; same seed, same bytes."""
    random = np.random.default_rng(seed)
    nodes, weights, current = [], [], "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(dims)):
        last = layer == len(dims) - 2
        matrix = (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights += [nh.from_array(matrix, f"w{layer}"), nh.from_array(np.zeros(columns, np.float32), f"b{layer}")]
        made = "y" if last else f"g{layer}"
        nodes.append(oh.make_node("Gemm", [current, f"w{layer}", f"b{layer}"], [made]))
        if not last:
            current = f"r{layer}"
            nodes.append(oh.make_node("Relu", [made], [current]))
    x = oh.make_tensor_value_info("x", TensorProto.FLOAT, ["n", dims[0]])
    y = oh.make_tensor_value_info("y", TensorProto.FLOAT, ["n", dims[-1]])
    graph = oh.make_graph(nodes, "mlp", [x], [y], weights)
    return _serialised(graph)


def _serialised(graph: Any) -> bytes:
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    blob: bytes = model.SerializeToString(deterministic=True)
    return blob


def _value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return oh.make_tensor_value_info(name, kind, list(shape))


def bench_model(name: str, seed: int) -> tuple[bytes, ModelVersion]:
    """Blob and facts of one benchmark model."""
    blob = mlp(seed)
    x, y = TensorSpec("x", "FP32", DIMS[:1]), TensorSpec("y", "FP32", DIMS[-1:])
    return blob, ModelVersion(name, VERSION, digest_of(blob), len(blob), (x,), (y,))


def mlps(count: int, first: int = 0) -> tuple[Model, ...]:
    """Models ``bench-00`` and so on, with equal shares of the load."""
    models = []
    for number in range(first, first + count):
        name = f"bench-{number:02d}"
        models.append(Model(*bench_model(name, number), Load(name, item_shape=DIMS[:1])))
    return tuple(models)


def sums(name: str, width: int) -> Model:
    """FP32: y [n, 1] = the sum of x [n, width]; next to no work on rows of any size."""
    axes = nh.from_array(np.array([1], np.int64), "axes")
    node = oh.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    graph = oh.make_graph([node], "sums", [_value("x", "n", width)], [_value("y", "n", 1)], [axes])
    return _model(name, _serialised(graph), (width,), (1,))


def image_means(name: str, side: int) -> Model:
    """UINT8 images [n, side, side, 3], made float with channels first by a kernel, to the softmax of their means."""
    node = oh.make_node("ReduceMean", ["image"], ["scores"], axes=[2, 3], keepdims=0)
    shapes = [_value("image", "n", 3, side, side)], [_value("scores", "n", 3)]
    blob = _serialised(oh.make_graph([node], "means", *shapes))
    x, y = TensorSpec("image", "UINT8", (side, side, 3)), TensorSpec("scores", "FP32", (3,))
    facts = ModelVersion(name, VERSION, digest_of(blob), len(blob), (x,), (y,), ("image_to_float",), ("softmax",))
    return Model(blob, facts, Load(name, "image", "UINT8", (side, side, 3)))


def slow(name: str, row_ms: float, width: int = 16) -> Model:
    """FP32: y = x [n, width], after matrix products that take about ``row_ms`` on this machine for every row."""
    rounds = max(1, round(row_ms / round_ms(width)))
    return _model(name, slow_blob(rounds, width), (width,), (width,))


def slow_blob(rounds: int, width: int) -> bytes:
    """``rounds`` products of SIDE x SIDE matrices per row, in a loop that starts from the row."""
    weights = [
        nh.from_array((np.eye(SIDE) * 0.5).astype(np.float32), "square"),
        nh.from_array(np.array(rounds, np.int64), "trips"),
        nh.from_array(np.zeros(1, np.float32), "zero"),
        nh.from_array(np.array([1], np.int64), "one"),
        nh.from_array(np.array([1, 2], np.int64), "two"),
        nh.from_array(np.array([-1, 1, 1], np.int64), "cube"),
    ]
    body = oh.make_graph(
        [oh.make_node("MatMul", ["carried", "square"], ["next"]), oh.make_node("Identity", ["going"], ["still"])],
        "body",
        [
            _value("i", kind=TensorProto.INT64),
            _value("going", kind=TensorProto.BOOL),
            _value("carried", "n", SIDE, SIDE),
        ],
        [_value("still", kind=TensorProto.BOOL), _value("next", "n", SIDE, SIDE)],
    )
    # The loop starts from values of the input, or constant folding would run it once at load.
    nodes = [
        oh.make_node("ReduceSum", ["x", "one"], ["total"], keepdims=1),
        oh.make_node("Mul", ["total", "zero"], ["nothing"]),
        oh.make_node("Reshape", ["nothing", "cube"], ["seed"]),
        oh.make_node("Add", ["square", "seed"], ["first"]),
        oh.make_node("Loop", ["trips", "", "first"], ["end"], body=body),
        oh.make_node("ReduceSum", ["end", "two"], ["peak"], keepdims=0),
        oh.make_node("Unsqueeze", ["peak", "one"], ["column"]),
        oh.make_node("Mul", ["column", "zero"], ["none"]),
        oh.make_node("Add", ["x", "none"], ["y"]),
    ]
    return _serialised(oh.make_graph(nodes, "slow", [_value("x", "n", width)], [_value("y", "n", width)], weights))


def round_ms(width: int = 16) -> float:
    """Time of one more round for one row on this machine: the slope between 1 and 65 rounds, in ms."""
    return max((_best_ms(slow_blob(65, width), width) - _best_ms(slow_blob(1, width), width)) / 64, 1e-4)


def _best_ms(blob: bytes, width: int) -> float:
    from executors.runtime import CPU, session_options  # isort: skip

    import onnxruntime

    session = onnxruntime.InferenceSession(blob, session_options(), providers=[CPU])
    x, best = np.zeros((1, width), np.float32), 1e9
    for _ in range(15):
        start = time.perf_counter()
        session.run(None, {"x": x})
        best = min(best, (time.perf_counter() - start) * 1e3)
    return best


def _model(name: str, blob: bytes, x: tuple[int, ...], y: tuple[int, ...]) -> Model:
    specs = (TensorSpec("x", "FP32", x),), (TensorSpec("y", "FP32", y),)
    return Model(blob, ModelVersion(name, VERSION, digest_of(blob), len(blob), *specs), Load(name, item_shape=x))

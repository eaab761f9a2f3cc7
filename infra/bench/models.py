"""The benchmark's model: MLP 256-512-512-10, FP32, with a seeded random weight matrix per layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
from onnx import TensorProto

from executors.model_store import digest_of
from schemas.model import ModelVersion, TensorSpec

DIMS: Final = (256, 512, 512, 10)
OPSET: Final = 17
IR_VERSION: Final = 8
VERSION: Final = "v1.0.0"


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
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    blob: bytes = model.SerializeToString(deterministic=True)
    return blob


def bench_model(name: str, seed: int) -> tuple[bytes, ModelVersion]:
    """Blob and facts of one benchmark model."""
    blob = mlp(seed)
    x, y = TensorSpec("x", "FP32", DIMS[:1]), TensorSpec("y", "FP32", DIMS[-1:])
    return blob, ModelVersion(name, VERSION, digest_of(blob), len(blob), (x,), (y,))

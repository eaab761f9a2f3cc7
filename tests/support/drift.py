"""Rows beside a reference: what executors would tell of them, for tests."""

from __future__ import annotations

from typing import Final

import numpy as np

from executors.reference import make_reference
from executors.tally import CAPACITY, TensorTally
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import Reference
from schemas.statistics import MeasureCounts, VersionStatistics
from streams.canonical import to_json
from streams.columns import Array
from streams.references import reference_id

WIDTH: Final = 8
FACTS: Final = ModelVersion(
    "digits", "v1.0.0", "ab" * 32, 10,
    (TensorSpec("x", "FP32", (WIDTH,), allow_nan=True),), (TensorSpec("y", "FP32", (3,)),),
)  # fmt: skip


def rows(num_rows: int = 400, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Array:
    """Rows of normal numbers: float32 [n, WIDTH]."""
    return (np.random.default_rng(seed).normal(size=(num_rows, WIDTH)) * scale + shift).astype(np.float32)


def answers(inputs: Array) -> dict[str, Array]:
    """What the version makes of rows: their first three elements."""
    return {"y": np.nan_to_num(inputs[:, :3])}


def reference(num_rows: int = 1_000) -> Reference:
    """The reference of rows of seed 99."""
    inputs = rows(num_rows, seed=99)
    return make_reference(FACTS, [({"x": inputs}, answers(inputs))], "test")


def told(of: Reference, inputs: Array, end_us: int, executor: str = "executor-0") -> VersionStatistics:
    """An executor's window of 5 s in which exactly these rows were looked at."""
    arrays = {"x": inputs, **answers(inputs)}
    measures: list[MeasureCounts] = []
    for tensor in of.tensors:
        tally = TensorTally(tensor)
        for first in range(0, len(inputs), CAPACITY):
            tally.add(arrays[tensor.name], slice(first, first + CAPACITY))
        measures += tally.take()
    size = len(inputs)
    identity = reference_id(to_json(of))
    return VersionStatistics(
        executor, of.model, of.version, identity, end_us - 5_000_000, 5_000_000, 3 * size, size, tuple(measures)
    )

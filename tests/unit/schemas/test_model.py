"""A model version stands in memory as JSON: its defaults are part of that format."""

from __future__ import annotations

import dataclasses

from schemas.model import ModelVersion, TensorSpec


def test_defaults_of_a_version() -> None:
    version = ModelVersion("digits", "v1.0.0", "ab" * 32, 10, (TensorSpec("x", "FP32", (-1, 4)),), ())
    assert dataclasses.asdict(version)["inputs"][0] == {
        "name": "x",
        "datatype": "FP32",
        "item_shape": (-1, 4),
        "allow_nan": False,
    }
    assert (version.preprocess, version.postprocess, version.max_batch_size, version.deterministic) == (
        (),
        (),
        128,
        True,
    )
    assert not version.ordered

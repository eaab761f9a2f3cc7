"""The benchmark's model: seeded, and what its facts say."""

from __future__ import annotations

import numpy as np

from executors.session import ModelSession
from infra.bench.models import bench_model, mlp


def test_the_seed_is_the_model() -> None:
    assert mlp(1) == mlp(1)
    assert mlp(1) != mlp(2)


def test_it_runs_as_its_facts_say() -> None:
    blob, version = bench_model("bench_0", 0)
    out = ModelSession.load(blob, version, "cpu", warm=False).run({"x": np.ones((2, 256), np.float32)})
    assert out["y"].shape == (2, 10)
    assert np.isfinite(out["y"]).all()
    assert np.ptp(out["y"]) > 0

"""The benchmarks' models: seeded, and they compute what their facts say."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from executors.session import ModelSession
from infra.bench.models import bench_model, image_means, mlp, mlps, slow_blob, sums


def test_the_seed_is_the_model() -> None:
    assert mlp(1) == mlp(1)
    assert mlp(1) != mlp(2)


def test_it_runs_as_its_facts_say() -> None:
    blob, version = bench_model("bench_0", 0)
    out = ModelSession.load(blob, version, "cpu", warm=False).run({"x": np.ones((2, 256), np.float32)})
    assert out["y"].shape == (2, 10)
    assert np.isfinite(out["y"]).all()
    assert np.ptp(out["y"]) > 0


def test_models_have_names_and_bytes_of_their_own() -> None:
    models = mlps(3, first=9)
    assert [model.load.model for model in models] == ["bench-09", "bench-10", "bench-11"]
    assert len({model.facts.digest for model in models}) == 3
    assert mlps(1)[0].load.row_bytes == 1024


def test_sums() -> None:
    model = sums("sum-4", 4)
    out = ModelSession.load(model.blob, model.facts, "cpu", warm=False).run({"x": np.ones((3, 4), np.float32)})
    assert out["y"].tolist() == [[4.0]] * 3


def test_images_go_through_their_kernels() -> None:
    model = image_means("image-8", 8)
    image = np.zeros((2, 8, 8, 3), np.uint8)
    image[1, :, :, 2] = 255
    out = ModelSession.load(model.blob, model.facts, "cpu", warm=False).run({"image": image})["scores"]
    assert out[0] == pytest.approx(np.full(3, 1 / 3), abs=1e-5)
    assert out[1].argmax() == 2


@pytest.mark.parametrize("rounds", [1, 5])
def test_a_slow_model_gives_its_input_back(rounds: int) -> None:
    session = onnxruntime.InferenceSession(slow_blob(rounds, 16), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    assert np.array_equal(session.run(None, {"x": x})[0], x)

"""Sessions: provider truth, public signature in and out, errors with a code, a profile that grows with n."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from executors.runtime import CPU
from executors.session import ExecutionError, LoadError, ModelSession
from schemas.model import TensorSpec
from tests.support import models

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_identity_returns_its_input() -> None:
    blob = models.identity()
    session = ModelSession.load(blob, models.version_of(blob), "cpu")
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    out = session.run({"x": x})
    np.testing.assert_array_equal(out["y"], x)
    assert out["y"].flags.c_contiguous


def test_the_provider_is_what_the_session_says() -> None:
    blob = models.identity()
    session = ModelSession.load(blob, models.version_of(blob), "auto")
    assert session.provider == session._session.get_providers()[0]


AUTO_TWICE = """
from executors.session import ModelSession
from tests.support import models
blob = models.identity()
for _ in range(2):
    session = ModelSession.load(blob, models.version_of(blob), "auto")
    print(session.provider, session.fallback.sentence if session.fallback else "")
"""


def test_auto_says_once_per_process_that_it_fell_back_and_the_library_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", AUTO_TWICE], capture_output=True, text=True, check=True, cwd=ROOT)
    first, second = done.stdout.splitlines()
    assert done.stderr == ""
    if first.startswith(CPU):
        assert first == f"{CPU} no usable CUDA device: models of this process run on the CPU"
    assert second.split() == first.split()[:1]


def test_cuda_without_a_gpu_fails_fast_and_auto_falls_back() -> None:
    blob = models.mlp()
    version = models.version_of(blob, outputs=(TensorSpec("y", "FP32", (3,)),))
    auto = ModelSession.load(blob, version, "auto")
    if auto.provider == CPU:
        with pytest.raises(LoadError, match=r"model v1\.0\.0 cannot be loaded"):
            ModelSession.load(blob, version, "cuda")
    else:
        assert ModelSession.load(blob, version, "cuda").provider == auto.provider


def test_kernels_run_around_the_session() -> None:
    blob = models.mlp((4, 8, 5))
    version = models.version_of(
        blob,
        inputs=(TensorSpec("x", "UINT8", (4,)),),
        outputs=(TensorSpec("classes", "INT64", (2,)), TensorSpec("scores", "FP32", (2,))),
        preprocess=("scale_u8:16",),
        postprocess=("softmax", "top_k:2"),
    )
    x = np.random.default_rng(1).integers(0, 17, (7, 4), np.uint8)
    plain = ModelSession.load(blob, models.version_of(blob, outputs=(TensorSpec("y", "FP32", (5,)),)), "cpu")
    logits = plain.run({"x": x.astype(np.float32) / 16})["y"]
    out = ModelSession.load(blob, version, "cpu").run({"x": x})
    np.testing.assert_array_equal(out["classes"], np.argsort(-logits, 1)[:, :2])
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(out["scores"], np.sort(shares, 1)[:, ::-1][:, :2], rtol=1e-4)


def test_read_only_views_of_a_frame_are_inputs() -> None:
    blob = models.identity()
    x = np.frombuffer(np.ones(8, np.float32).tobytes(), np.float32).reshape(2, 4)
    assert not x.flags.writeable
    np.testing.assert_array_equal(ModelSession.load(blob, models.version_of(blob), "cpu").run({"x": x})["y"], x)


def test_outputs_of_two_runs_are_two_arrays() -> None:
    blob = models.mlp()
    version = models.version_of(blob, outputs=(TensorSpec("y", "FP32", (3,)),), postprocess=("softmax",))
    session = ModelSession.load(blob, version, "cpu")
    first = session.run({"x": np.zeros((2, 4), np.float32)})["y"]
    kept = first.copy()
    session.run({"x": np.ones((2, 4), np.float32)})
    np.testing.assert_array_equal(first, kept)


def test_a_free_axis_is_run_as_it_comes() -> None:
    blob = models.free_axis()
    version = models.version_of(blob, (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", ()),))
    session = ModelSession.load(blob, version, "cpu")
    for length in (1, 3, 50):
        assert session.run({"x": np.ones((2, length), np.float32)})["y"].tolist() == [length, length]


def test_a_row_of_128_items_runs_where_the_batch_is_smaller() -> None:
    blob = models.identity()
    session = ModelSession.load(blob, models.version_of(blob, max_batch_size=8), "cpu")
    assert session.run({"x": np.zeros((128, 4), np.float32)})["y"].shape == (128, 4)
    with pytest.raises(ExecutionError) as caught:
        session.run({"x": np.zeros((129, 4), np.float32)})
    assert caught.value.code == "batch_too_large"


@pytest.mark.parametrize("top", [1, 3, 8, 128])
def test_buckets_are_powers_of_two_and_the_maximum(top: int) -> None:
    blob = models.identity()
    buckets = ModelSession.load(blob, models.version_of(blob, max_batch_size=top), "cpu", warm=False).buckets()
    assert buckets[0] == 1
    assert buckets[-1] == top
    assert all(size & (size - 1) == 0 for size in buckets[:-1])
    assert list(buckets) == sorted(set(buckets))


def test_wrong_arrays_are_refused_with_a_code() -> None:
    blob = models.identity()
    session = ModelSession.load(blob, models.version_of(blob), "cpu")
    for inputs in ({}, {"x": np.zeros((1, 5), np.float32)}, {"x": np.zeros((1, 4), np.float64)}):
        with pytest.raises(ExecutionError) as caught:
            session.run(inputs)
        assert caught.value.code == "wrong_shape"


def test_the_profile_grows_with_the_batch() -> None:
    blob = models.mlp((4, 256, 256, 4))
    profile = ModelSession.load(blob, models.version_of(blob), "cpu").profile
    assert profile.fixed_us >= 0
    assert profile.per_item_us > 0
    assert profile.full_batch_us > profile.time_us(1)


def test_a_slow_model_takes_about_its_time() -> None:
    blob = models.slow(20)
    profile = ModelSession.load(blob, models.version_of(blob, max_batch_size=4), "cpu").profile
    assert 2_000 < profile.time_us(1) < 200_000  # a busy machine may stretch or spoil the calibration


def test_garbage_is_a_load_error_of_one_line() -> None:
    with pytest.raises(LoadError) as caught:
        ModelSession.load(b"no model", models.version_of(b"no model"), "cpu")
    assert "\n" not in str(caught.value)


def test_a_model_that_makes_nan_runs() -> None:
    blob = models.nan()
    out = ModelSession.load(blob, models.version_of(blob), "cpu").run({"x": -np.ones((1, 4), np.float32)})
    assert np.isnan(out["y"]).all()

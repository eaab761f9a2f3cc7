"""Sessions: provider truth, public signature in and out, errors with a code, a profile that grows with n."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from executors.engine import BoundRun
from executors.provider import create
from executors.runtime import CPU
from executors.session import ExecutionError, LoadError, ModelSession
from executors.signature import dtype_of
from schemas.model import TensorSpec
from streams.tensors import DATATYPES
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


@pytest.mark.parametrize(
    ("fixed_s", "item_s", "largest"),
    [(0.0, 0.001, 128), (0.0, 0.08, 2), (0.001, 0.003, 64), (0.5, 0.0, 128)],  # a GPU's profile warms all
)
def test_no_model_is_warmed_for_minutes(
    monkeypatch: pytest.MonkeyPatch, fixed_s: float, item_s: float, largest: int
) -> None:
    ran: list[int] = []

    def timed(session: ModelSession, num_items: int) -> float:
        del session
        ran.append(num_items)
        return fixed_s + item_s * num_items

    monkeypatch.setattr(ModelSession, "_time_s", timed)
    blob = models.identity()
    profile = ModelSession.load(blob, models.version_of(blob, max_batch_size=128), "cpu").profile
    assert max(ran) == largest
    assert ran[: ran.index(largest)] == [1 << power for power in range(ran.index(largest))]
    assert profile.time_us(1) == pytest.approx((fixed_s + item_s) * 1e6)
    assert profile.time_us(128) == pytest.approx((fixed_s + 128 * item_s) * 1e6)


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


def test_a_lack_of_memory_may_pass_and_a_wrong_input_does_not() -> None:
    blob = models.hungry()
    session = ModelSession.load(blob, models.version_of(blob), "cpu")
    x = np.full((1, 4), 8, np.float32)
    assert (session.run({"x": x})["y"] == x).all()
    for wrong, transient in (({"x": x * (1 << 41)}, True), ({"x": x[:, :3]}, False)):
        with pytest.raises(ExecutionError) as caught:
            session.run(wrong)
        assert caught.value.transient is transient
    blob = models.picks()
    specs = (TensorSpec("x", "INT64", (1,)),), (TensorSpec("y", "FP32", (1,)),)
    picks = ModelSession.load(blob, models.version_of(blob, *specs), "cpu")
    with pytest.raises(ExecutionError, match="out of data bounds") as caught:
        picks.run({"x": np.full((1, 1), 7, np.int64)})
    assert caught.value.transient is False


def test_a_model_that_makes_nan_runs() -> None:
    blob = models.nan()
    out = ModelSession.load(blob, models.version_of(blob), "cpu").run({"x": -np.ones((1, 4), np.float32)})
    assert np.isnan(out["y"]).all()


def arrays(datatype: str, items: int, width: int) -> np.ndarray[Any, Any]:
    """Any values of a datatype, [items, width], as an executor holds them."""
    random = np.random.default_rng(width)
    if datatype == "BYTES":
        return np.array([f"text {number} é" for number in range(items * width)], object).reshape(items, width)
    dtype = dtype_of(datatype)
    raw = random.integers(0, 2 if datatype == "BOOL" else 100, (items, width))
    return raw.astype(dtype)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_out_as_it_went_in(datatype: str) -> None:
    blob = models.echo(datatype)
    inputs, outputs = (TensorSpec(f"{side}0", datatype, (-1,)) for side in "xy")
    session = ModelSession.load(blob, models.version_of(blob, (inputs,), (outputs,)), "cpu")
    for items, width in ((1, 3), (5, 1), (2, 0)):
        x = arrays(datatype, items, width)
        out = session.run({"x0": x})["y0"]
        assert (out.dtype, out.shape) == (x.dtype, x.shape)
        np.testing.assert_array_equal(out, x)


def test_several_inputs_and_outputs_of_several_datatypes() -> None:
    blob = models.sums()
    version = models.version_of(
        blob,
        (TensorSpec("a", "FP32", (3,)), TensorSpec("b", "INT8", (-1,))),
        (TensorSpec("sum", "FP32", (3,)), TensorSpec("total", "INT32", ()), TensorSpec("b2", "INT8", (-1,))),
    )
    session = ModelSession.load(blob, version, "cpu")
    b = np.array([[100, 100, 100], [-1, 0, 1]], np.int8)
    out = session.run({"b": b, "a": np.ones((2, 3), np.float32)})
    assert out["total"].tolist() == [300, 0]
    assert out["sum"].tolist() == [[301] * 3, [1] * 3]
    assert out["b2"].tolist() == b.tolist()
    with pytest.raises(ExecutionError, match="the inputs differ in their number of items"):
        session.run({"b": b, "a": np.ones((1, 3), np.float32)})


def test_the_bound_engine_serves_the_same_answers() -> None:
    """What a GPU runs, with buffers in this machine's memory: padding is not seen from outside."""
    blob = models.conv()
    version = models.version_of(
        blob,
        (TensorSpec("image", "UINT8", (8, 8, 3)),),
        (TensorSpec("class", "INT64", ()),),
        ("image_to_float", "standardise:0.4,0.5,0.6,0.2,0.3,0.4"),
        ("softmax", "argmax"),
        max_batch_size=8,
    )
    inner = create(blob, "cpu")[0]
    plain = ModelSession.load(blob, version, "cpu")
    bound = ModelSession(inner, version, engine=BoundRun(inner, "cpu", plain.buckets()))
    bound.warm()
    for items in (1, 3, 8, 11):
        image = np.random.default_rng(items).integers(0, 256, (items, 8, 8, 3), np.uint8)
        np.testing.assert_array_equal(bound.run({"image": image})["class"], plain.run({"image": image})["class"])


def test_an_image_that_no_kernel_can_take_is_an_error_of_its_request() -> None:
    blob = models.conv()
    version = models.version_of(
        blob,
        (TensorSpec("image", "UINT8", (-1, -1, 3)),),
        (TensorSpec("logits", "FP32", (5,)),),
        ("resize_nearest:8,8", "image_to_float"),
    )
    session = ModelSession.load(blob, version, "cpu")
    assert session.run({"image": np.zeros((2, 3, 4, 3), np.uint8)})["logits"].shape == (2, 5)
    with pytest.raises(ExecutionError, match="has no pixel to take") as caught:
        session.run({"image": np.zeros((1, 0, 4, 3), np.uint8)})
    assert caught.value.code == "execution_failed"


def test_graphs_that_cannot_be_captured_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = models.identity()
    inner = create(blob, "cpu")[0]
    monkeypatch.setattr("executors.session.create_best", lambda _blob, _device: (inner, None, True))
    warmed: list[ModelSession] = []

    def warm(session: ModelSession) -> None:
        warmed.append(session)
        if len(warmed) == 1:
            raise ExecutionError("execution_failed", "the capture failed")

    monkeypatch.setattr(ModelSession, "warm", warm)
    assert ModelSession.load(blob, models.version_of(blob), "cpu") is warmed[1]
    warmed.clear()
    monkeypatch.setattr("executors.session.create_best", lambda _blob, _device: (inner, None, False))
    with pytest.raises(LoadError, match="the capture failed"):
        ModelSession.load(blob, models.version_of(blob), "cpu")


def test_a_session_that_captures_is_made_anew_where_capturing_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a free axis, buffers do not stay where a captured run would look for them."""
    blob = models.free_axis()
    inner = create(blob, "cpu")[0]
    made: list[str] = []

    def anew(_blob: bytes, device: str) -> tuple[Any, None]:
        made.append(device)
        return inner, None

    monkeypatch.setattr("executors.session.create_best", lambda _blob, _device: (inner, None, True))
    monkeypatch.setattr("executors.session.create", anew)
    version = models.version_of(blob, (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", ()),))
    ModelSession.load(blob, version, "auto", warm=False)
    assert made == ["auto"]
    plain = models.identity()
    inner = create(plain, "cpu")[0]
    ModelSession.load(plain, models.version_of(plain), "auto", warm=False)
    assert made == ["auto"]

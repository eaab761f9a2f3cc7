"""The executor's core on a GPU: the same answers as on the CPU, by buffers and graphs per bucket, and told apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from executors.engine import BoundRun, PlainRun, ValueRun
from executors.provider import create, create_best, require
from executors.runtime import CPU, CUDA
from executors.session import LoadError, ModelSession
from schemas.model import ModelVersion, TensorSpec
from tests.support import models

TOLERANCE = {"rtol": 2e-3, "atol": 2e-3}
"""TF32 products have ten bits."""

MLP = models.mlp((16, 64, 8))
SPECS = ((TensorSpec("x", "FP32", (16,)),), (TensorSpec("y", "FP32", (8,)),))


def mlp_version(max_batch_size: int = 32) -> ModelVersion:
    return models.version_of(MLP, *SPECS, max_batch_size=max_batch_size)


def rows(items: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.random.default_rng(seed).standard_normal((items, 16)).astype(np.float32)}


@pytest.fixture(scope="module")
def on_cpu() -> ModelSession:
    return ModelSession.load(MLP, mlp_version(), "cpu")


@pytest.fixture(scope="module")
def on_gpu() -> ModelSession:
    return ModelSession.load(MLP, mlp_version(), "cuda")


def test_auto_and_cuda_get_the_gpu_and_cpu_does_not() -> None:
    assert [require(device) for device in ("auto", "cuda", "cpu")] == [CUDA, CUDA, CPU]
    for device, provider in (("auto", CUDA), ("cuda", CUDA), ("cpu", CPU)):
        session = ModelSession.load(MLP, mlp_version(), device)
        assert (session.provider, session.fallback) == (provider, None)


def test_answers_are_the_cpus_for_every_batch_size(on_cpu: ModelSession, on_gpu: ModelSession) -> None:
    """Sizes of buckets, between them and above the largest; each replay reads its own input."""
    for items in (*range(1, 33), 50, 128, 3, 17):
        feed = rows(items, items)
        np.testing.assert_allclose(on_gpu.run(feed)["y"], on_cpu.run(feed)["y"], **TOLERANCE)


def test_each_bucket_is_captured_once(on_gpu: ModelSession) -> None:
    engine = on_gpu._engine
    assert isinstance(engine, BoundRun)
    assert engine._graphs
    for bucket in on_gpu.buckets():
        on_gpu.run(rows(bucket))
    assert {size for size, _ in engine._sets} >= set(on_gpu.buckets())


def test_without_graphs_the_answers_are_the_same(on_cpu: ModelSession) -> None:
    session = create(MLP, "cuda")[0]
    bound = BoundRun(session, "cuda", (1, 8, 32))
    plain = PlainRun(session)
    for items in (1, 5, 32, 40):
        feed, wanted = rows(items, items), on_cpu.run(rows(items, items))["y"]
        np.testing.assert_allclose(bound.run(feed, items)[0], wanted, **TOLERANCE)
        np.testing.assert_allclose(plain.run(feed, items)[0], wanted, **TOLERANCE)


def test_outputs_outlive_the_next_run(on_gpu: ModelSession) -> None:
    first = on_gpu.run(rows(4, 1))["y"]
    kept = first.copy()
    on_gpu.run(rows(4, 2))
    np.testing.assert_array_equal(first, kept)


def test_free_axes_and_several_tensors() -> None:
    blob = models.sums()
    version = models.version_of(
        blob,
        (TensorSpec("a", "FP32", (3,)), TensorSpec("b", "INT8", (-1,))),
        (TensorSpec("sum", "FP32", (3,)), TensorSpec("total", "INT32", ()), TensorSpec("b2", "INT8", (-1,))),
    )
    session = ModelSession.load(blob, version, "auto")
    assert isinstance(session._engine, BoundRun)
    assert not session._engine._graphs
    for items, width in ((2, 3), (5, 1), (1, 0), (2, 3)):
        b = np.random.default_rng(items).integers(-9, 9, (items, width), np.int8)
        out = session.run({"a": np.ones((items, 3), np.float32), "b": b})
        np.testing.assert_array_equal(out["total"], b.sum(1, dtype=np.int32))
        np.testing.assert_array_equal(out["b2"], b)


def test_an_image_network_with_its_kernels() -> None:
    blob = models.conv()
    best = (TensorSpec("classes", "INT64", (2,)), TensorSpec("scores", "FP32", (2,)))
    photo = (TensorSpec("image", "UINT8", (-1, -1, 3)),)
    version = models.version_of(
        blob, photo, best, ("resize_bilinear:8,8", "image_to_float"), ("softmax", "top_k:2"), max_batch_size=16
    )
    cpu, gpu = (ModelSession.load(blob, version, device) for device in ("cpu", "cuda"))
    for items in (1, 7, 16):
        image = np.random.default_rng(items).integers(0, 256, (items, 12, 9, 3), np.uint8)
        np.testing.assert_allclose(
            gpu.run({"image": image})["scores"], cpu.run({"image": image})["scores"], **TOLERANCE
        )


def test_texts_and_bf16_run_where_they_can() -> None:
    words = models.words()
    outputs = (TensorSpec("label", "INT64", ()), TensorSpec("back", "BYTES", ()))
    session = ModelSession.load(words, models.version_of(words, (TensorSpec("word", "BYTES", ()),), outputs), "auto")
    assert isinstance(session._engine, PlainRun)
    assert session.run({"word": np.array(["dog", "cow"], object)})["label"].tolist() == [1, -1]
    blob = models.doubled_bf16()
    halves = tuple(TensorSpec(name, "BF16", (2,)) for name in "xy")
    session = ModelSession.load(blob, models.version_of(blob, halves[:1], halves[1:]), "auto")
    assert isinstance(session._engine, ValueRun)
    assert session.run({"x": np.array([[0x3F80, 0x4000]], np.uint16)})["y"].tolist() == [[0x4000, 0x4080]]


def test_two_models_side_by_side_in_threads(on_cpu: ModelSession) -> None:
    sessions = [ModelSession.load(MLP, mlp_version(), "cuda") for _ in range(2)]

    def work(session: ModelSession) -> None:
        for items in (1, 9, 32) * 30:
            feed = rows(items, items)
            np.testing.assert_allclose(session.run(feed)["y"], on_cpu.run(feed)["y"], **TOLERANCE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, sessions))


def test_a_model_that_is_none_says_so_here_too() -> None:
    with pytest.raises(LoadError):
        ModelSession.load(b"no model", mlp_version(), "cuda")


def test_graphs_are_left_where_a_part_of_the_model_is_not_the_gpus() -> None:
    assert create_best(MLP, "cuda")[2]
    assert not create_best(models.words(), "auto")[2]

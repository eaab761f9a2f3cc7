"""Every engine gives what the session itself gives, whatever the batch size, the bucket and the datatypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors import engine as engines
from executors.engine import BoundRun, PlainRun, ValueRun, engine_of
from executors.provider import create
from tests.support import models

BUCKETS = (1, 2, 4, 8)
FIXED = create(models.mlp((4, 8, 3)), "cpu")[0]
FREE = create(models.sums(), "cpu")[0]
WORDS = create(models.words(), "cpu")[0]
HALVES = create(models.doubled_bf16(), "cpu")[0]

BOUND = BoundRun(FIXED, "cpu", BUCKETS)


def feed_of(num_items: int, width: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    return {
        "a": random.standard_normal((num_items, 3)).astype(np.float32),
        "b": random.integers(-128, 128, (num_items, width), np.int8),
    }


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 11), min_size=1, max_size=5))
def test_bound_buffers_give_what_the_session_gives(sizes: list[int]) -> None:
    """Batches of any sizes one after the other: nothing of one is left for the next."""
    plain = PlainRun(FIXED)
    for seed, size in enumerate(sizes):
        feed = {"x": np.random.default_rng(seed).standard_normal((size, 4)).astype(np.float32)}
        (bound,), (twin,) = BOUND.run(feed, size), plain.run(feed, size)
        assert bound.shape == (size, 3)
        np.testing.assert_allclose(bound, twin, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(0, 3))
def test_several_tensors_with_free_and_empty_axes(size: int, width: int) -> None:
    feed = feed_of(size, width, size + width)
    for engine in (PlainRun(FREE), BoundRun(FREE, "cpu", BUCKETS)):
        total = feed["b"].sum(1, dtype=np.int32)
        summed, totals, same = engine.run(feed, size)
        np.testing.assert_array_equal(totals, total)
        np.testing.assert_allclose(summed, feed["a"] + total[:, None], rtol=1e-6)
        np.testing.assert_array_equal(same, feed["b"])


def test_outputs_outlive_the_next_run() -> None:
    first = BOUND.run({"x": np.ones((2, 4), np.float32)}, 2)[0]
    kept = first.copy()
    BOUND.run({"x": np.zeros((2, 4), np.float32)}, 2)
    np.testing.assert_array_equal(first, kept)


def test_a_batch_above_the_buckets_is_run_at_its_size() -> None:
    feed = {"x": np.ones((20, 4), np.float32)}
    np.testing.assert_allclose(BOUND.run(feed, 20)[0], PlainRun(FIXED).run(feed, 20)[0], rtol=1e-5)
    assert (20, ((4,),)) in BOUND._sets


def test_sets_of_buffers_are_bounded_and_the_last_used_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MAX_SETS", 3)
    bound = BoundRun(FREE, "cpu", BUCKETS)
    for width in (1, 2, 3, 1, 4, 5):
        bound.run(feed_of(2, width, width), 2)
    assert [shapes[1] for _, shapes in bound._sets] == [(1,), (4,), (5,)]


def test_a_padded_batch_is_zero_behind_its_rows() -> None:
    bound = BoundRun(FIXED, "cpu", BUCKETS)
    bound.run({"x": np.ones((4, 4), np.float32)}, 4)
    bound.run({"x": np.ones((3, 4), np.float32)}, 3)
    assert bound._sets[4, ((4,),)].staged["x"].sum(1).tolist() == [4, 4, 4, 0]


def test_bf16_goes_as_uint16() -> None:
    x = np.array([[1.5, -2], [0.1, 300]], ml_dtypes.bfloat16)
    (y,) = ValueRun(HALVES).run({"x": x.view(np.uint16)}, 2)
    assert y.dtype == np.uint16
    np.testing.assert_array_equal(y.view(ml_dtypes.bfloat16), x + x)


def test_texts_go_as_str() -> None:
    label, back = PlainRun(WORDS).run({"word": np.array(["dog", "cow", "cat"], object)}, 3)
    assert (label.tolist(), back.tolist()) == ([1, -1, 0], ["dog", "?", "cat"])


def test_the_engine_fits_the_session() -> None:
    assert isinstance(engine_of(FIXED, BUCKETS), PlainRun)
    assert isinstance(engine_of(WORDS, BUCKETS), PlainRun)
    assert isinstance(engine_of(HALVES, BUCKETS), ValueRun)
    mixed = create(models.echo("BYTES", "BF16"), "cpu")[0]
    with pytest.raises(ValueError, match="inputs of BYTES and tensors of BF16 is not served"):
        engine_of(mixed, BUCKETS)


def test_only_what_stays_where_it_is_can_be_captured() -> None:
    assert [engines.can_capture(session) for session in (FIXED, FREE, WORDS, HALVES)] == [True, False, False, False]


def test_graphs_have_one_number_per_bucket_and_other_sizes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA is told, without CUDA: the run options of each set of buffers."""

    class Options(dict[str, str]):
        def add_run_config_entry(self, name: str, entry: str) -> None:
            self[name] = entry

    monkeypatch.setattr(engines.onnxruntime, "RunOptions", Options)
    captured = BoundRun(FIXED, "cpu", BUCKETS, graphs=True)
    assert [captured._options(size)["gpu_graph_id"] for size in (1, 8, 9)] == ["1", "8", "-1"]
    assert BOUND._options(8) is None

"""What kernels share: views, checks of their numbers, and errors that name the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from executors.kernels.kernel import (
    KernelError,
    check_size,
    flat,
    last_axis,
    lines,
    read_only,
    whole_number,
)
from executors.kernels.pipeline import KERNELS
from schemas.model import TensorSpec


def test_views_of_a_batch() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    assert flat(x).shape == (2, 12)
    assert lines(x).shape == (6, 4)
    assert flat(np.zeros(5)).shape == (5, 1)
    assert lines(np.zeros((0, 3))).shape == (0, 3)
    assert np.shares_memory(flat(x), x)


def test_a_read_only_view_is_contiguous_and_leaves_its_array_writeable() -> None:
    x = np.arange(6).reshape(2, 3)
    view = read_only(x)
    assert not view.flags.writeable
    assert x.flags.writeable
    assert np.shares_memory(view, x)
    assert read_only(x.T).flags.c_contiguous


def test_the_last_axis() -> None:
    assert last_axis("k", TensorSpec("x", "FP32", (2, 5)), fixed=True) == 5
    assert last_axis("k", TensorSpec("x", "FP32", (-1,)), fixed=False) == -1
    with pytest.raises(KernelError, match="kernel `k`: needs items whose last axis is fixed, `x` has"):
        last_axis("k", TensorSpec("x", "FP32", (-1,)), fixed=True)
    with pytest.raises(KernelError, match="needs items of at least one axis"):
        last_axis("k", TensorSpec("x", "FP32", ()), fixed=False)


def test_whole_numbers_and_sizes_are_bounded() -> None:
    assert whole_number("k", "it", 3.0, 1, 3) == 3
    for number in (0.0, 1.5, 4.0):
        with pytest.raises(KernelError, match=f"it must be a whole number from 1 to 3, not {number:g}"):
            whole_number("k", "it", number, 1, 3)
    small = TensorSpec("x", "FP32", (4096, 4096))
    assert check_size("k", small) is small
    with pytest.raises(KernelError, match="33,554,432 elements of one item"):
        check_size("k", TensorSpec("x", "FP32", (2, 4096, 4096)))


def test_a_kernel_says_how_many_numbers_it_takes() -> None:
    assert [KERNELS[name].max_numbers for name in ("softmax", "scale_u8", "top_k", "resize_nearest")] == [0, 1, 1, 2]
    assert KERNELS["standardise"].max_numbers == 1024

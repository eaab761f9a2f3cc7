"""The device setting: what is required, what a session got, what is said about it."""

from __future__ import annotations

import pytest

from executors import provider
from executors.provider import DeviceError, create, create_best, require
from executors.runtime import CPU, CUDA, cuda_is_usable
from tests.support import models


def test_cpu_asks_for_nothing() -> None:
    assert require("cpu") == CPU


def test_cuda_without_a_gpu_ends_with_a_sentence_and_auto_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "cuda_is_usable", lambda: False)
    assert require("auto") == CPU
    with pytest.raises(DeviceError) as raised:
        require("cuda")
    assert raised.value.exit_code == 1
    assert str(raised.value).startswith("the setting device is `cuda`, and no session comes up on a GPU. `isos doctor`")


def test_with_a_gpu_both_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "cuda_is_usable", lambda: True)
    assert [require(device) for device in ("auto", "cuda", "cpu")] == [CUDA, CUDA, CPU]


def test_a_session_that_is_not_on_the_gpu_is_none_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert create(models.identity(), "cpu")[0].get_providers() == [CPU]
    if cuda_is_usable():
        assert create(models.identity(), "cuda")[0].get_providers()[0] == CUDA
        return
    with pytest.raises(RuntimeError, match=f"device `cuda` was asked for, and the session runs on {CPU}"):
        create(models.identity(), "cuda")


def test_graphs_are_tried_first_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []

    def made(_blob: bytes, _device: str, *, graphs: bool = False) -> tuple[str, None]:
        tried.append(graphs)
        if graphs and len(tried) == 1:
            raise RuntimeError("some nodes are the CPU's")
        return "session", None

    monkeypatch.setattr(provider, "cuda_is_usable", lambda: True)
    monkeypatch.setattr(provider, "create", made)
    assert create_best(b"", "auto") == ("session", None, False)
    assert create_best(b"", "auto") == ("session", None, True)
    assert create_best(b"", "cpu") == ("session", None, False)
    assert tried == [True, False, True, False]

"""The bench of the executor's core runs on a CPU too; without a GPU it says so."""

from __future__ import annotations

import pytest

from executors import provider
from executors.runtime import CPU
from infra.bench import gpu
from infra.bench.gpu import Bench, main, measure, table


def test_figures_of_a_cpu() -> None:
    document = measure(Bench("cpu", round_s=0.002, mixed_s=0.02, batches=(1, 8)))
    assert (document["execution_provider"], document["graphs"]) == (CPU, False)
    assert [row["batch"] for row in document["batches"]] == [1, 8]
    for row in document["batches"]:
        assert set(row) == {"batch", "bare", "bound", "session", "core", "core_ratio"}
        assert min(row.values()) > 0
    assert document["mixed"]["useful"] > 0
    assert 0 < document["mixed"]["busy"] <= 1
    assert table(document).splitlines()[0].startswith(f"{CPU} (device cpu), no CUDA graphs")


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(provider, "cuda_is_usable", lambda: False)
    assert main([]) == 1
    assert capsys.readouterr().err.startswith("no GPU: the setting device is `cuda`, and no session comes up on a GPU")


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "measure", lambda bench: {"device": bench.device})
    assert main(["--device", "cpu", "--output", "json"]) == 0
    assert capsys.readouterr().out == '{"device": "cpu"}\n'

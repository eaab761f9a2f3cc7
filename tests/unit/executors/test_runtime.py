"""ONNX Runtime as installed and as imported."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

from executors import runtime
from executors.runtime import CUDA, RUNTIME_ERRORS, cuda_is_usable, sentence_of

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PACKAGES = ("schemas", "streams", "agents", "executors", "infra")


def test_the_cpu_only_distribution_is_absent() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("onnxruntime")


def test_telemetry_is_switched_off_before_the_import() -> None:
    environment = {key: text for key, text in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    program = "import executors.runtime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "1"


def test_whoever_imports_the_library_has_thrown_the_switch_before() -> None:
    files = {path: path.read_text() for path in ROOT.glob("*/**/*.py") if path.parts[len(ROOT.parts)] in PACKAGES}
    importers = {path: text for path, text in files.items() if re.search(r"^ *import onnxruntime$", text, re.MULTILINE)}
    assert {path.name for path in importers} >= {"runtime.py", "session.py"}
    for path, text in importers.items():
        switch = text.find("ORT_DISABLE_TELEMETRY" if path.name == "runtime.py" else "from executors.runtime import")
        assert -1 < switch < text.index("import onnxruntime\n"), path


def test_errors_of_the_runtime_are_known_by_name() -> None:
    names = {error.__name__ for error in RUNTIME_ERRORS}
    assert {"Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "RuntimeException"} <= names
    assert Exception not in RUNTIME_ERRORS


def test_the_probe_is_a_model_of_its_own_and_its_answer_is_the_sessions() -> None:
    model = onnx.load_model_from_string(runtime._IDENTITY)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Identity"]
    session = onnxruntime.InferenceSession(runtime._IDENTITY, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "x"
    assert cuda_is_usable() is (cuda_is_usable.__wrapped__())


def test_without_the_provider_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", list)
    monkeypatch.delattr(runtime.onnxruntime, "InferenceSession")
    assert runtime.cuda_is_usable.__wrapped__() is False


def test_the_answer_is_what_the_session_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnCuda:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def get_providers(self) -> list[str]:
            return [CUDA]

    monkeypatch.setattr(runtime.onnxruntime, "InferenceSession", OnCuda)
    assert runtime.cuda_is_usable.__wrapped__() is True


def test_a_sentence_is_one_line_without_paths() -> None:
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : /src/model.cc:256 bad model\nsecond line")
    assert sentence_of(error) == "1 : FAIL : bad model"

"""ONNX Runtime as installed and as imported."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import pytest

from executors.runtime import RUNTIME_ERRORS, sentence_of


def test_the_cpu_only_distribution_is_absent() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("onnxruntime")


def test_telemetry_is_switched_off_before_the_import() -> None:
    environment = {key: text for key, text in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    program = "import executors.runtime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "1"


def test_errors_of_the_runtime_are_known_by_name() -> None:
    names = {error.__name__ for error in RUNTIME_ERRORS}
    assert {"Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "RuntimeException"} <= names
    assert Exception not in RUNTIME_ERRORS


def test_a_sentence_is_one_line_without_paths() -> None:
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : /src/model.cc:256 bad model\nsecond line")
    assert sentence_of(error) == "1 : FAIL : bad model"

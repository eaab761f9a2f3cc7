"""ONNX Runtime as it is used here: telemetry off, one thread, no spinning, its errors as one tuple and one sentence."""

from __future__ import annotations

import os

# Telemetry is on by default and is decided when the library is loaded, so before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from typing import Final

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

_FATAL_ONLY: Final = 4

RUNTIME_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(
        value
        for value in vars(_ort).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == _ort.__name__
    ),
    RuntimeError,
    ValueError,
    MemoryError,
)
"""What ONNX Runtime raises; its own exceptions share no root but ``Exception``."""


def session_options() -> onnxruntime.SessionOptions:
    """One thread, no spinning, only fatal messages: errors reach the caller as exceptions."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def sentence_of(error: Exception) -> str:
    """The runtime's own sentence without source paths, one line, at most 300 characters."""
    text = str(error).split("\n", 1)[0].replace("[ONNXRuntimeError] : ", "")
    return " ".join(word for word in text.split() if not word.startswith("/"))[:300] or type(error).__name__

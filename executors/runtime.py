"""ONNX Runtime as it is used here: telemetry off, one thread, no spinning, its errors as one tuple and one sentence."""

from __future__ import annotations

import functools
import os

# Telemetry is on by default and is decided when the library is loaded, so before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from typing import Final

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

_FATAL_ONLY: Final = 4
_WARNINGS: Final = 2  # the library's own default

# One Identity node, opset 17, IR 8: nothing but a provider can be at fault when its session does not come up.
_IDENTITY: Final = (
    b'\x08\x08:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)

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

_OF_THE_INPUT: Final = (
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotFound",
    "NotImplemented",
)
PERMANENT_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(kind for kind in RUNTIME_ERRORS if kind.__module__ == _ort.__name__ and kind.__name__ in _OF_THE_INPUT),
    ValueError,
)
"""Of these, what the same batch would run into again; the others (memory, a provider, a device) may pass."""


def session_options() -> onnxruntime.SessionOptions:
    """One thread, no spinning, only fatal messages: errors reach the caller as exceptions."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


@functools.cache
def cuda_is_usable() -> bool:
    """Whether a session comes up on CUDA, found out once per process and in silence.

    Not safe beside another thread's first session: the library's default log is muted for the attempt.
    """
    if CUDA not in onnxruntime.get_available_providers():
        return False
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    try:
        session = onnxruntime.InferenceSession(_IDENTITY, session_options(), providers=[CUDA, CPU])
    except RUNTIME_ERRORS:
        return False
    finally:
        onnxruntime.set_default_logger_severity(_WARNINGS)
    return bool(session.get_providers()[0] == CUDA)


def sentence_of(error: Exception) -> str:
    """The runtime's own sentence without source paths, one line, at most 300 characters."""
    text = str(error).split("\n", 1)[0].replace("[ONNXRuntimeError] : ", "")
    return " ".join(word for word in text.split() if not word.startswith("/"))[:300] or type(error).__name__

"""Child process of the doctor: what ONNX Runtime claims, and what a session really gets. One JSON line on stdout."""

from __future__ import annotations

import json

# Before the library itself: it switches telemetry off.
from executors.runtime import CUDA, cuda_is_usable  # isort: skip
import onnxruntime


def look() -> dict[str, object]:
    """Claim and truth: ``version``, ``claims_cuda`` (the list of providers), ``got_cuda`` (a session)."""
    claims = CUDA in onnxruntime.get_available_providers()
    return {"version": onnxruntime.__version__, "claims_cuda": claims, "got_cuda": cuda_is_usable()}


if __name__ == "__main__":
    print(json.dumps(look()))

"""Tests that need an NVIDIA GPU, and nothing else but Python and wheels: no Kafka, no Redis, no other fixtures.

Asked for without a GPU they fail at once and say so.
"""

from __future__ import annotations

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """End with a sentence where no session comes up on a GPU."""
    del session
    try:
        from executors.runtime import cuda_is_usable
    except ImportError as error:
        pytest.exit(f"no GPU: {error}", returncode=1)
    if not cuda_is_usable():
        pytest.exit("no GPU: ONNX Runtime opens no session on CUDA here; `isos doctor` says why", returncode=1)

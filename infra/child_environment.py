"""The environment of the processes that we start: the settings as variables, and what must be set before an import.

A child never reads a settings file that its supervisor did not see.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from infra.settings import Settings


def as_environment(settings: Settings) -> dict[str, str]:
    """Give every setting as an ``ISOS_`` variable, so that a child reads exactly these values."""
    values = settings.model_dump(mode="json")
    return {f"ISOS_{name.upper()}": _text(value) for name, value in values.items()}


def child_environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Build a Python child's environment: ``inherited``, the settings, and what must be set before an import.

    Telemetry off: ONNX Runtime 1.31 opens connections unless told before the import. Thread pools at one: parallelism
    is processes. malloc thresholds: frames of 512 KiB are otherwise mapped and unmapped each time.
    """
    return {
        **inherited,
        **as_environment(settings),
        "ORT_DISABLE_TELEMETRY": "1",
        "MALLOC_MMAP_THRESHOLD_": "268435456",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "MALLOC_TOP_PAD_": "67108864",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "NUMBA_CACHE_DIR": str(settings.tools_dir / "numba"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', '/usr/bin:/bin')}",
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

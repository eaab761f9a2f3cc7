"""Compile ahead what Numba compiles, into its cache: ``python -m infra.compiled``.

A function with an explicit signature is compiled when its module is imported; without a full cache each process of a
stack would do that at the same time, for longer than a start may take. Set-up and the image's build stage run this.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("streams", "agents", "executors")
MARK: Final = "njit("


def sources() -> list[Path]:
    """The files that have compiled functions, sorted; nothing but the standard library is needed to know them."""
    return [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if MARK in path.read_text(encoding="utf-8")
    ]


def compile_all() -> None:
    """Import each of them, and run every kernel on each type that it takes."""
    for path in sources():
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    importlib.import_module("executors.kernels.pipeline").warm()


if __name__ == "__main__":
    compile_all()

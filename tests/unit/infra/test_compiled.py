"""What is compiled ahead: every file with a compiled function, found without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra import compiled


def test_every_file_with_a_compiled_function_is_found() -> None:
    found = {str(path.relative_to(compiled.ROOT)) for path in compiled.sources()}
    assert found >= {"executors/kernels/kernel.py", "streams/terminals.py", "streams/record_columns.py"}
    for package in compiled.PACKAGES:
        for path in (compiled.ROOT / package).rglob("*.py"):
            is_one = any(line.lstrip().startswith(("@njit", "@numba.njit")) for line in path.read_text().splitlines())
            assert not is_one or str(path.relative_to(compiled.ROOT)) in found


def test_set_up_asks_for_them_before_anything_is_installed() -> None:
    code = "import sys, infra.compiled as c\nc.sources()\nprint('numba' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=compiled.ROOT, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_each_is_imported_and_the_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(compiled, "sources", lambda: [compiled.ROOT / "streams" / "edge" / "x.py"])

    def imports(name: str) -> SimpleNamespace:
        imported.append(name)
        return SimpleNamespace(warm=lambda: imported.append("warm"))

    monkeypatch.setattr(compiled, "importlib", SimpleNamespace(import_module=imports))
    compiled.compile_all()
    assert imported == ["streams.edge.x", "executors.kernels.pipeline", "warm"]


def test_the_image_compiles_ahead() -> None:
    text = (Path(compiled.ROOT) / "infra" / "Containerfile").read_text()
    assert "-m infra.compiled" in text

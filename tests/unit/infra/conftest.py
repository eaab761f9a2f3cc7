"""What several tests of the composition stand on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in an empty folder, with an empty home and no ISOS_ variables."""
    for name in [name for name in os.environ if name.startswith("ISOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path

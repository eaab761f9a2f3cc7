"""``isos restart`` says what is missing in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.restart import report
from infra.settings import StartError


def test_nothing_running_is_one_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--data-dir", str(tmp_path), "restart"])
    assert isinstance(done.exception, StartError)
    assert "isos up" in str(done.exception)


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    report("edge-0", "ready", 1.5)
    assert capsys.readouterr() == ("", "   1.50 s  edge-0         ready\n")

"""What ``isos status`` prints when nothing runs."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from infra.cli import app


def test_nothing_running_is_exit_code_3_and_valid_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--data-dir", str(tmp_path), "status", "--output", "json"])
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert (document["running"], document["processes"]) == (False, [])


def test_the_table_says_so_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--data-dir", str(tmp_path), "status"])
    assert result.exit_code == 3
    assert "stack not running" in result.stdout

"""`isos models reference` without a broker: what is wrong with the arguments is said before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.commands.models import app
from infra.commands.reference import measure_rows
from tests.support import drift


def test_setting_and_removing_at_once_is_a_usage_error() -> None:
    done = CliRunner().invoke(app, ["reference", "digits", "--data", "rows.npz", "--remove"])
    assert done.exit_code == 2
    assert "give either --data FILE or --remove" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("more", [(), ("--data", "rows.npz"), ("--remove",)])
def test_a_broker_that_is_away(more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["reference", "digits", *more])
    assert done.exit_code == 6
    assert "The broker does not answer" in done.stderr


def test_a_row_per_measure() -> None:
    rows = measure_rows(drift.reference(200))
    assert [row["measure"] for row in rows][-3:] == ["x.deviation", "y.class", "y.largest"]
    assert {row["of"] for row in rows} == {"input", "output"}
    assert rows[0]["bins"] == 10

"""The settings in force, each with where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.cli import app
from infra.settings import Settings

pytestmark = pytest.mark.usefixtures("clean")


def isos(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def shown(*arguments: str) -> dict[str, dict[str, str]]:
    done = isos(*arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return {row["setting"]: row for row in json.loads(done.stdout)}


def test_every_setting_is_shown_with_value_default_and_origin(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clean / "isos.toml").write_text("lanes = 3\n")
    monkeypatch.setenv("ISOS_REDIS_URL", "redis://:hunter2@cache:6379/0")
    rows = shown("--set", "partitions=4", "config", "show", "--origin")
    assert list(rows) == list(Settings.model_fields)
    assert (rows["partitions"]["value"], rows["partitions"]["origin"]) == (4, "flag --set partitions")
    assert (rows["lanes"]["value"], rows["lanes"]["origin"]) == (3, f"file {clean / 'isos.toml'}")
    assert (rows["redis_url"]["value"], rows["redis_url"]["origin"]) == (
        "redis://:***@cache:6379/0",
        "environment ISOS_REDIS_URL",
    )
    assert (rows["edges"]["value"], rows["edges"]["default"], rows["edges"]["origin"]) == (1, 1, "default")
    assert rows["tick_ms"]["meaning"]


def test_the_table_shows_the_origin_when_it_is_asked() -> None:
    assert "default" in isos("config", "show", "--origin", "edges").stdout.splitlines()[-1]
    assert isos("config", "show", "edges").stdout.splitlines()[-1].split() == ["edges", "1", "1"]


def test_a_name_that_is_none_says_what_is_meant() -> None:
    done = isos("config", "show", "partition")
    assert done.exit_code == 3
    assert "did you mean partitions?" in done.stderr


def test_a_check_of_good_settings_is_0() -> None:
    done = isos("config", "check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "0 errors, 0 warnings" in done.stderr


def test_a_check_says_everything_that_is_wrong_and_is_2() -> None:
    done = isos("--set", "edges=-1", "--set", "device=tpu", "config", "check", "--output", "json")
    assert done.exit_code == 2
    assert [row["setting"] for row in json.loads(done.stdout)] == ["edges", "device"]


def test_a_warning_alone_is_0() -> None:
    done = isos("--set", "fence=false", "config", "check")
    assert done.exit_code == 0
    assert "0 errors, 1 warnings" in done.stderr

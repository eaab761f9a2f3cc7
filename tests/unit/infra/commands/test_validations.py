"""`isos validations` without a broker: rows, exit codes, and arguments that are wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import infra.commands.validations
from infra.commands.validations import app, outcome_of, rehearsal, row_of
from schemas.review import Validation
from tests.support.samples import SAMPLES

VALIDATION: Validation = SAMPLES["Validation"]
FAILED = replace(VALIDATION, validation_id="v2", passed=False, outcome="failed", model="others")
OLDER = Validation("v0", "output gate", "digits", "v1.0.0", False, "not finite", 5)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_row_has_evidence_as_values_and_an_outcome_also_of_an_older_release() -> None:
    row = row_of(VALIDATION)
    assert (row["validation_id"], row["outcome"], row["samples"]) == ("v1", "passed", 540)
    assert row["evidence"] == {"num_right": 540}
    assert row["time"].endswith("Z")
    assert json.loads(json.dumps(row)) == row
    assert (outcome_of(OLDER), row_of(OLDER)["evidence"]) == ("failed", None)
    assert outcome_of(replace(OLDER, passed=True)) == "passed"


def test_a_list_is_filtered_and_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.commands.validations, "_read", lambda ctx: [OLDER, VALIDATION, FAILED])

    def ids(*arguments: str) -> list[str]:
        return [row["validation_id"] for row in json.loads(run("list", *arguments, "--output", "json").stdout)]

    assert ids() == ["v0", "v1", "v2"]
    assert ids("digits") == ["v0", "v1"]
    assert ids("--failed") == ["v0", "v2"]
    assert ids("--last", "1") == ["v2"]
    assert "all right" in run("list").stdout
    assert json.loads(run("show", "v1", "--output", "json").stdout) == row_of(VALIDATION)
    missing = run("show", "v9")
    assert (missing.exit_code, "There is no check v9." in missing.stderr) == (3, True)


def test_an_empty_list_says_how_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.commands.validations, "_read", lambda ctx: [])
    done = run("list")
    assert (done.exit_code, done.stdout, "No check was run." in done.stderr) == (0, "", True)
    assert run("list", "--output", "json").stdout == "[]\n"


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [(("passed", "passed"), 0), (("passed", "failed"), 7), (("not_run", "failed"), 7), (("passed", "not_run"), 1)],
)
def test_the_exit_code_of_a_run(monkeypatch: pytest.MonkeyPatch, outcomes: tuple[str, ...], code: int) -> None:
    done = [replace(VALIDATION, outcome=outcome, passed=outcome == "passed") for outcome in outcomes]
    monkeypatch.setattr(infra.commands.validations, "controlled", lambda *given: done)
    ended = run("run", "digits", "--output", "json")
    assert (ended.exit_code, [row["outcome"] for row in json.loads(ended.stdout)]) == (code, list(outcomes))


@pytest.mark.parametrize(("outcome", "code"), [("passed", 0), ("failed", 7), ("not_run", 1)])
def test_a_rehearsal_says_its_outcomes_and_ends_what_comes_after_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: str, code: int
) -> None:
    done = [replace(VALIDATION, outcome=outcome, passed=outcome == "passed")]
    monkeypatch.setattr(infra.commands.validations, "controlled", lambda *given: done)
    monkeypatch.setattr(infra.commands.validations, "settings_of", lambda ctx: None)
    ended = 0
    try:
        rehearsal(None, "digits", "v2.0.0")  # type: ignore[arg-type]
    except typer.Exit as stopped:
        ended = stopped.exit_code
    assert ended == code
    assert capsys.readouterr() == ("", f"golden_set {outcome.replace('_', ' ')}: all right\n")


def test_a_check_that_nobody_knows() -> None:
    done = run("run", "digits", "--check", "magic")
    assert done.exit_code == 2
    assert "'magic' is none of golden_set, latency" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [("list",), ("run", "digits")])
def test_a_broker_that_is_away(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = run(*arguments)
    assert (done.exit_code, "The broker does not answer" in done.stderr) == (6, True)

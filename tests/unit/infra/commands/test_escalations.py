"""`isos escalations`: the newest ones, by subject, and one with its causes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.escalations as command
from infra.commands.escalations import app
from schemas.review import Escalation
from tests.unit.infra.test_incident_view import ROLLBACK, TOLD

VOTE = Escalation("vote-r7-ab", "reviewer", "review/r7", "self_approval: No.", 9_000_001)
OTHER = Escalation("process_silent/orchestrator-0/1/bound", "monitor", "orchestrator-0", "Memory is silent.", 9_000_000)


@pytest.fixture(autouse=True)
def _read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(ctx: Any) -> list[Escalation]:
        return [VOTE, TOLD, OTHER]

    monkeypatch.setattr(command, "read", read)


def listed(*flags: str) -> list[str]:
    done = CliRunner().invoke(app, ["list", *flags, "--output", "json"])
    return [row["subject"] for row in json.loads(done.stdout)]


def test_the_newest_and_those_about_something() -> None:
    assert listed() == ["review/r7", "digits", "orchestrator-0"]
    assert listed("--about", "r7") == listed("--about", "review/r7") == ["review/r7"]
    assert listed("--last", "1") == ["orchestrator-0"]
    assert listed("--about", "digits") == ["digits"]


def test_tables() -> None:
    assert ROLLBACK in CliRunner().invoke(app, ["list"]).stdout
    done = CliRunner().invoke(app, ["list", "--about", "nobody"])
    assert (done.exit_code, done.stdout, "Nothing was escalated." in done.stderr) == (0, "", True)


def test_show_one_or_say_that_there_is_none() -> None:
    done = CliRunner().invoke(app, ["show", ROLLBACK, "--output", "json"])
    assert json.loads(done.stdout)["causes"] == ["control.alerts-0@4"]
    done = CliRunner().invoke(app, ["show", "nothing"])
    assert (done.exit_code, "There is no escalation nothing" in done.stderr) == (3, True)


def test_help_has_examples() -> None:
    for verb in ("list", "show"):
        assert f"isos escalations {verb}" in CliRunner().invoke(app, [verb, "--help"]).stdout

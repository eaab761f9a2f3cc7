"""`isos incidents`: open ones by default, everything about one, and closing by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.incidents as command
from infra.commands.incidents import app
from infra.incident_view import IncidentLife, lives
from schemas.review import Escalation
from tests.unit.infra.test_incident_view import BURN, EVENTS, ROLLBACK, TOLD


@pytest.fixture(autouse=True)
def _read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(ctx: Any) -> tuple[list[IncidentLife], list[Escalation]]:
        return lives(EVENTS), [TOLD]

    monkeypatch.setattr(command, "read", read)


def listed(*flags: str) -> list[str]:
    done = CliRunner().invoke(app, ["list", *flags, "--output", "json"])
    assert done.exit_code == 0
    return [row["incident_id"] for row in json.loads(done.stdout)]


def test_open_ones_and_all() -> None:
    assert listed() == [BURN]
    assert listed("--all") == [BURN, ROLLBACK, BURN]
    assert listed("--all", "--about", "digits") == [BURN, ROLLBACK, BURN]
    assert listed("--about", "other") == []


def test_a_table_and_an_empty_one() -> None:
    done = CliRunner().invoke(app, ["list", "--all"])
    assert done.exit_code == 0
    assert ROLLBACK in done.stdout
    done = CliRunner().invoke(app, ["list", "--about", "other"])
    assert (done.exit_code, done.stdout, "No incident is open." in done.stderr) == (0, "", True)


def test_show_one_or_say_that_there_is_none() -> None:
    done = CliRunner().invoke(app, ["show", ROLLBACK, "--output", "json"])
    assert json.loads(done.stdout)["escalations"][0]["reason"] == "digits is rolled back."
    done = CliRunner().invoke(app, ["show", "nothing"])
    assert (done.exit_code, "There is no incident nothing" in done.stderr) == (3, True)


def test_the_newest_of_an_id_is_shown() -> None:
    done = CliRunner().invoke(app, ["show", BURN, "--output", "json"])
    assert json.loads(done.stdout)["state"] == "open"


@pytest.mark.parametrize(("is_open", "code"), [(True, 0), (False, 3)])
def test_closing_by_hand(is_open: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "controlled", lambda settings, kind, run: is_open)
    done = CliRunner().invoke(app, ["close", BURN, "--reason", "looked into", "--output", "json"])
    assert done.exit_code == code
    if is_open:
        assert json.loads(done.stdout) == {"incident_id": BURN, "state": "resolved", "reason": "looked into"}
        assert CliRunner().invoke(app, ["close", BURN, "--reason", "x"]).stdout == f"{BURN} is closed.\n"
    else:
        assert f"No incident {BURN} is open." in done.stderr


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_closing_wants_a_reason(reason: str) -> None:
    done = CliRunner().invoke(app, ["close", BURN, "--reason", reason])
    assert (done.exit_code, "say why in 1 to 500 characters" in done.stderr) == (2, True)


def test_help_has_examples() -> None:
    for verb in ("list", "show", "close"):
        assert f"isos incidents {verb}" in CliRunner().invoke(app, [verb, "--help"]).stdout

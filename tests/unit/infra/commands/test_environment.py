"""`isos environment` without a broker."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.environment as command
from infra.cli import app as isos
from infra.commands.environment import app, environment_row
from schemas.environment import Environment
from streams.memory_view import MemoryView
from tests.support.signers import PRODUCTION
from tests.unit.streams.test_review_view import view_of


def speaks(monkeypatch: pytest.MonkeyPatch, view: MemoryView) -> list[Environment]:
    """Let memory say this; what is asked for is returned and done."""
    asked: list[Environment] = []

    async def set_environment(wanted: Environment) -> Environment:
        asked.append(wanted)
        return wanted

    control = SimpleNamespace(view=view, set_environment=set_environment)

    def controlled(settings: Any, kind: type, work: Any) -> Any:
        return asyncio.run(work(control))

    monkeypatch.setattr(command, "controlled", controlled)
    return asked


def test_show(monkeypatch: pytest.MonkeyPatch) -> None:
    speaks(monkeypatch, view_of(environment=PRODUCTION))
    done = CliRunner().invoke(app, ["show", "--output", "json"])
    assert json.loads(done.stdout) == environment_row(PRODUCTION) == {
        "environment": "production", "approved_by": "people", "gated": ["ActivateVersion"], "review_deadline_s": 60,
    }  # fmt: skip
    speaks(monkeypatch, MemoryView())
    done = CliRunner().invoke(app, ["show"])
    assert (done.exit_code, "Nobody declared an environment" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["production"], Environment("production", ("ActivateVersion",), False, 60)),
        (["production", "--gate", "A", "--gate", "B", "--gate", "A"], Environment("production", ("A", "B"), False, 60)),
        (["staging", "--review-deadline-s", "9"], Environment("staging", ("ActivateVersion",), False, 9)),
        (["sandbox"], Environment("sandbox", ("ActivateVersion",), True, 60)),
        (["sandbox", "--people"], Environment("sandbox", ("ActivateVersion",), False, 60)),
    ],
)
def test_set_changes_what_is_named(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: Environment
) -> None:
    asked = speaks(monkeypatch, view_of(environment=PRODUCTION))
    assert CliRunner().invoke(app, ["set", *arguments]).exit_code == 0
    assert asked == [expected]


def test_an_unknown_environment() -> None:
    done = CliRunner().invoke(app, ["set", "prod"])
    assert (done.exit_code, "none of sandbox, staging and production" in done.stderr) == (2, True)


@pytest.mark.parametrize("verb", ["show", "set"])
def test_every_verb_has_examples(verb: str) -> None:
    assert "Examples:" in CliRunner().invoke(isos, ["environment", verb, "--help"]).stdout

"""`isos models rollback`: what it asks for and says; a real stack is in the integration tests."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.rollback as command
from infra.commands.models import app
from infra.memory_control import ChangeRefusedError
from infra.signatory import ReviewWaitsError
from streams.memory_view import MemoryView
from tests.unit.infra.test_rollback_control import HEDGED, served
from tests.unit.infra.test_signatory import REVIEW

VIEW = served("v2.0.0", ("v1.0.0", HEDGED))


def roll_back(
    monkeypatch: pytest.MonkeyPatch, view: MemoryView, *arguments: str, waits: bool = False
) -> tuple[Any, list[Any]]:
    """What the command came to, and what it asked for."""
    asked: list[Any] = []

    async def go_back(name: str, *, wait_for_plan: bool) -> None:
        asked.append((name, wait_for_plan))
        if waits:
            raise ReviewWaitsError(REVIEW, waited=wait_for_plan)

    control = SimpleNamespace(view=view, go_back=go_back)
    monkeypatch.setattr(command, "controlled", lambda settings, kind, work: asyncio.run(work(control)))
    return CliRunner().invoke(app, ["rollback", *arguments]), asked


def test_it_says_what_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    done, asked = roll_back(monkeypatch, VIEW, "digits", "--no-wait")
    assert (done.exit_code, asked) == (0, [("digits", False)])
    assert "; put back: version, hedge." in done.stdout
    done, asked = roll_back(monkeypatch, VIEW, "digits", "--output", "json")
    said = json.loads(done.stdout)
    assert (said["restored"], said["waits_for_review"], asked) == (["version", "hedge"], None, [("digits", True)])


def test_one_that_waits_for_a_person_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = roll_back(monkeypatch, VIEW, "digits", "--no-wait", waits=True)
    assert (done.exit_code, "put back" in done.stdout) == (0, False)
    assert "isos reviews approve r9" in done.stderr
    done, _ = roll_back(monkeypatch, VIEW, "digits", waits=True)
    assert isinstance(done.exception, ReviewWaitsError)


def test_where_there_is_nothing_to_go_back_to_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    done, asked = roll_back(monkeypatch, served("v2.0.0"), "digits")
    assert isinstance(done.exception, ChangeRefusedError)
    assert (done.exception.exit_code, asked) == (3, [])

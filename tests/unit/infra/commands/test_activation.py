"""`isos models activate` and `rollback`: what they ask for and say; a real stack is in the integration tests."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.activation as command
from infra.commands.models import app
from infra.memory_control import ChangeRefusedError
from infra.signatory import ReviewWaitsError
from schemas.known_good import GoodVersion, KnownGood
from schemas.memory import MemoryEntry
from streams.canonical import to_json
from streams.memory_view import ActiveVersion, MemoryView
from tests.support.frames import MODEL, T, memory
from tests.unit.infra.test_signatory import REVIEW


def test_an_activation_that_waits_for_a_person_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def activate(name: str, version: str, *, wait_for_plan: bool) -> None:
        raise ReviewWaitsError(REVIEW, waited=wait_for_plan)

    control = SimpleNamespace(view=memory(MODEL), activate=activate)
    monkeypatch.setattr(command, "controlled", lambda settings, kind, work: asyncio.run(work(control)))
    done = CliRunner().invoke(app, ["activate", MODEL.model, "v2.0.0", "--no-wait", "--output", "json"])
    said = json.loads(done.stdout)
    assert (done.exit_code, said["waits_for_review"]) == (0, "r9")
    assert "isos reviews approve r9" in done.stderr
    done = CliRunner().invoke(app, ["activate", MODEL.model, "v2.0.0"])
    assert isinstance(done.exception, ReviewWaitsError)
    assert done.exception.exit_code == 5


def served(active: str, *good: str) -> MemoryView:
    """Memory in which a version is active and others proved themselves, the newest first."""
    view = memory(MODEL, ActiveVersion("digits", active))
    known = KnownGood("digits", tuple(GoodVersion(version, "", T, T, 200) for version in good))
    key = "good/digits"
    return MemoryView(view.sequence, entries={**view.entries, key: MemoryEntry(key, 1, 9, to_json(known), T)})


def roll_back(monkeypatch: pytest.MonkeyPatch, view: MemoryView, *arguments: str) -> tuple[Any, list[Any]]:
    """What the command came to, and the activations that it asked for."""
    asked: list[Any] = []

    async def activate(name: str, version: str, *, wait_for_plan: bool) -> None:
        asked.append((name, version, wait_for_plan))

    control = SimpleNamespace(view=view, activate=activate)
    monkeypatch.setattr(command, "controlled", lambda settings, kind, work: asyncio.run(work(control)))
    return CliRunner().invoke(app, ["rollback", *arguments]), asked


@pytest.mark.parametrize(
    ("active", "good", "target"),
    [
        ("v3.0.0", ("v2.0.0", "v1.0.0"), "v2.0.0"),
        ("v2.0.0", ("v2.0.0", "v1.0.0"), "v1.0.0"),
        ("v1.0.0", ("v1.0.0", "v2.0.0"), "v2.0.0"),
    ],
)
def test_it_goes_back_to_the_version_that_proved_itself_last(
    monkeypatch: pytest.MonkeyPatch, active: str, good: tuple[str, ...], target: str
) -> None:
    done, asked = roll_back(monkeypatch, served(active, *good), "digits", "--no-wait")
    assert (done.exit_code, asked) == (0, [("digits", target, False)])


@pytest.mark.parametrize("good", [(), ("v2.0.0",)])
def test_without_another_good_version_it_says_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, good: tuple[str, ...]
) -> None:
    done, asked = roll_back(monkeypatch, served("v2.0.0", *good), "digits")
    assert isinstance(done.exception, ChangeRefusedError)
    assert (done.exception.exit_code, asked) == (3, [])
    assert "No other version of digits than v2.0.0 proved itself in service" in str(done.exception)


def test_an_unknown_model_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    done, asked = roll_back(monkeypatch, served("v2.0.0"), "other")
    assert isinstance(done.exception, ChangeRefusedError)
    assert (done.exception.code, asked) == ("unknown_model", [])

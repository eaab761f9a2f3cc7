"""`isos models canary` and `isos models activate --weight`: what they ask for and say."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.canary as command
from infra.commands.models import app
from infra.signatory import ReviewWaitsError
from streams.memory_view import MemoryView
from tests.unit.infra.test_canary_control import ALONE, CANARY, SERVES, WAITS
from tests.unit.infra.test_signatory import REVIEW


def told(
    monkeypatch: pytest.MonkeyPatch, view: MemoryView, *arguments: str, waits: bool = False
) -> tuple[Any, list[Any]]:
    """What a command came to, and the shares that it asked for."""
    asked: list[Any] = []

    async def set_share(wanted: Any, *, wait_for_plan: bool) -> None:
        asked.append((wanted, wait_for_plan))
        if waits:
            raise ReviewWaitsError(REVIEW, waited=wait_for_plan)

    control = SimpleNamespace(view=view, set_share=set_share)
    monkeypatch.setattr(command, "controlled", lambda settings, kind, work: asyncio.run(work(control)))
    return CliRunner().invoke(app, list(arguments)), asked


def test_it_shows_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = told(monkeypatch, SERVES, "canary", "digits")
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()][1:] == [
        ["digits", "v1.0.0", "active", "80", "80"],
        ["digits", "v2.0.0", "canary", "20", "20"],
    ]
    assert done.stderr == ""
    done, _ = told(monkeypatch, SERVES, "canary", "digits", "--output", "json")
    assert json.loads(done.stdout)["canary"] == {"version": "v2.0.0", "weight_percent": 20, "state": "serves"}


def test_one_that_waits_for_executors_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = told(monkeypatch, WAITS, "canary", "digits")
    assert "waits until executors have loaded it" in done.stderr


def test_a_weight_is_a_canary_and_all_of_it_an_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    done, asked = told(monkeypatch, SERVES, "activate", "digits", "v2.0.0", "--weight", "20")
    assert (done.exit_code, asked) == (0, [(CANARY, True)])
    assert done.stdout == "digits is served by v1.0.0 80 %, v2.0.0 20 % (memory 40).\n"
    done, asked = told(monkeypatch, ALONE, "activate", "digits", "v2.0.0", "--weight", "0", "--no-wait", "-o", "json")
    assert (json.loads(done.stdout)["waits_for_review"], asked[0][0].weight_percent) == (None, 0)
    done, asked = told(monkeypatch, ALONE, "activate", "digits", "v2.0.0", "--weight", "101")
    assert (done.exit_code, asked) == (2, [])


def test_one_that_waits_for_a_person_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("activate", "digits", "v2.0.0", "--weight", "20", "--no-wait", "--output", "json")
    done, _ = told(monkeypatch, ALONE, *given, waits=True)
    assert (done.exit_code, json.loads(done.stdout)["waits_for_review"]) == (0, "r9")
    assert "isos reviews approve r9" in done.stderr
    done, _ = told(monkeypatch, ALONE, "activate", "digits", "v2.0.0", "--weight", "20", waits=True)
    assert isinstance(done.exception, ReviewWaitsError)

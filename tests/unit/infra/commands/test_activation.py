"""`isos models activate`: what it asks for and says; a real stack is in the integration tests."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import infra.commands.activation as command
from infra.commands.models import app
from infra.signatory import ReviewWaitsError
from tests.support.frames import MODEL, memory
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

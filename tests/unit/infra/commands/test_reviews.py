"""`isos reviews`: what waits, what was decided, and what counts as expired."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.reviews as command
from infra.commands.reviews import app, review_rows
from schemas.review import ReviewDecision, ReviewRequest

FAR_US = 4_000_000_000_000_000
REQUEST = ReviewRequest("q1", "planner", "plan/x", "ab", "evidence", 100, 10)
WAITING = replace(REQUEST, review_id="q2", deadline_us=FAR_US)
DECISION = ReviewDecision("q1", "rejected", "somebody", "No.", "ab", 50)


def states(decisions: list[ReviewDecision], now_us: int) -> list[tuple[str, str, str]]:
    rows = review_rows([REQUEST, WAITING, REQUEST], decisions, now_us)
    return [(row["review_id"], row["state"], row["decided_by"]) for row in rows]


def test_states() -> None:
    assert states([], 99) == [("q1", "waiting", ""), ("q2", "waiting", "")]
    assert states([], 100) == [("q1", "expired", ""), ("q2", "waiting", "")]
    later = replace(DECISION, decision="expired", decided_by="reviewer")
    assert states([DECISION, later], 100) == [("q1", "rejected", "somebody"), ("q2", "waiting", "")]


@pytest.fixture
def _read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(ctx: Any) -> tuple[list[ReviewRequest], list[ReviewDecision]]:
        return [REQUEST, WAITING], [DECISION]

    monkeypatch.setattr(command, "_read", read)


@pytest.mark.usefixtures("_read")
def test_list_and_show() -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["list", "--output", "json"])
    assert [row["review_id"] for row in json.loads(done.stdout)] == ["q2"]
    done = runner.invoke(app, ["list", "--all", "--output", "json"])
    assert [row["review_id"] for row in json.loads(done.stdout)] == ["q1", "q2"]
    done = runner.invoke(app, ["show", "q1", "--output", "json"])
    assert json.loads(done.stdout)["reason"] == "No."
    done = runner.invoke(app, ["show", "q9"])
    assert (done.exit_code, "There is no review q9" in done.stderr) == (3, True)

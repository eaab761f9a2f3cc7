"""``isos replay``: rows, sentences and exit codes; a real journal is in tests/integration/test_replay.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.replay as command
from infra.commands.replay import app, notes, row, time_text
from infra.journals import Replayed
from streams.control.replay import Difference, Replay
from streams.topics import JOURNALED_AGENTS
from tests.support.journals import PLAIN, as_records, replayed
from tests.unit.streams.control.test_journal import SPEC
from tests.unit.streams.control.test_replay import journal


def made(*, differs: bool = False, records: Any = None, is_part: bool = False) -> Replayed:
    entries = journal(20)
    if differs:
        entries[4:5] = []
    replay, found = replayed(SPEC, as_records(entries) if records is None else records)
    return Replayed(replay, found[0] if found else None, is_part, 0.5)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the replay comes to, by agent; and what was asked for."""
    kept: dict[str, Any] = {"unknown": 0, "asked": []}

    def replay(settings: Any, names: Sequence[str], *, from_start: bool) -> tuple[list[dict[str, Any]], int]:
        kept["asked"].append((list(names), from_start))
        return [row(name, kept.get(name) or made()) for name in names], kept["unknown"]

    monkeypatch.setattr(command, "_replay", replay)
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    return kept


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_all_agents_without_a_difference(outcome: dict[str, Any]) -> None:
    code, out, err = run("--all", "--output", "json")
    rows = json.loads(out)
    assert (code, err, [each["agent"] for each in rows]) == (0, "", [*JOURNALED_AGENTS, "router"])
    assert {each["differences"] for each in rows} == {0}
    assert (rows[0]["entries"], rows[0]["records_per_s"], rows[0]["difference"]) == (20, 40, None)
    assert outcome["asked"] == [([*JOURNALED_AGENTS, "router"], False)]


def test_named_agents_once_each_from_the_start(outcome: dict[str, Any]) -> None:
    code, out, _ = run("monitor", "scaler", "monitor", "--from-start")
    assert (code, outcome["asked"]) == (0, [(["monitor", "scaler"], True)])
    assert "first_difference" in out
    assert "monitor" in out


def test_a_difference_is_exit_code_7_and_a_sentence(outcome: dict[str, Any]) -> None:
    outcome["planner"] = made(differs=True)
    code, out, err = run("monitor", "planner", "--output", "jsonl")
    assert code == 7
    assert [json.loads(line)["first_difference"] for line in out.splitlines()] == [None, 6]
    assert err == (
        "planner: its journal is broken at sequence 6 of 1970-01-01T00:00:00.000050Z (offset 8, record in/0/5): "
        "sequence 6 stands behind 4: entries are missing or repeated.\n"
    )


def test_journals_of_agents_that_are_not_known(outcome: dict[str, Any]) -> None:
    outcome["unknown"] = 2
    code, _, err = run("--all")
    assert (code, err) == (0, "2 journals are of agents that this release does not know: not looked at.\n")


def test_an_agent_that_there_is_not(outcome: dict[str, Any]) -> None:
    code, out, err = run("janitor")
    assert (code, out) == (3, "")
    assert err.startswith("No decisions of an agent janitor are kept; those of orchestrator, planner, ")
    code, _, err = run()
    assert code == 2
    assert "--all" in err


def test_what_else_is_said() -> None:
    assert notes("a", made()) == []
    trimmed = as_records(journal(120, take_over_at=[100]))[60:]
    assert notes("a", made(records=trimmed)) == [
        "a: 40 entries stand before the first snapshot that is kept: passed over."
    ]
    assert notes("a", made(records=trimmed, is_part=True)) == []
    assert notes("a", made(records=[])) == ["a: the journal is empty."]
    unreadable = Difference("a", 9, -1, 0, "", "", "journal", "the record is no journal entry")
    assert row("a", Replayed(Replay(SPEC, PLAIN), unreadable, False, 1.0))["first_difference"] == "unreadable"
    assert notes("a", Replayed(Replay(SPEC, PLAIN), unreadable, False, 1.0)) == [
        "a: its journal is broken (offset 9): the record is no journal entry."
    ]
    otherwise = Difference("a", 9, 3, 5, "tick", "", "effects", "effect 0 differs")
    assert notes("a", Replayed(Replay(SPEC, PLAIN), otherwise, False, 1.0)) == [
        "a: it decides otherwise today at sequence 3 of 1970-01-01T00:00:00.000005Z (offset 9, tick): effect 0 differs."
    ]


def test_times() -> None:
    assert time_text(1_000_001) == "1970-01-01T00:00:01.000001Z"

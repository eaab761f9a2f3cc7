"""``isos backtest``: rows, summary, wrong policies; a real journal is in tests/integration/test_replay.py."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.commands.backtest as command
from infra.commands.backtest import WIDTH, Outcome, app, effects_text, sentences
from streams.control.backtest import Backtest
from tests.support.journals import PLAIN, as_records, written
from tests.unit.streams.control.test_backtest import SPEC, Limit, lived


def outcome(limit: int = 0, *, spoiled: bool = False) -> Outcome:
    backtest = Backtest(SPEC, PLAIN, Limit(most=5, patience_us=200_000))
    made = Outcome(backtest, deque(maxlen=limit or None))
    records = as_records(written(SPEC, lived({50: 3, 700: 8, 2_000: 12}, 2_100)))
    if spoiled:
        records[-1] = (records[-1][0], b"garbage")
    for record in records:
        for change in backtest.take(*record):
            made.shown.append(change)
            made.num_changes += 1
            made.num_by_kind[change.kind] = made.num_by_kind.get(change.kind, 0) + 1
    backtest.end()
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    kept: list[Any] = []

    def run(settings: Any, spec: Any, params: Any, *, from_start: bool, limit: int) -> Outcome:
        kept.append((spec.name, params, from_start))
        return outcome(limit)

    monkeypatch.setattr(command, "_run", run)
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    return kept


def policy(folder: Path, text: str) -> str:
    path = folder / "policy.json"
    path.write_text(text)
    return str(path)


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_the_document(asked: list[Any], tmp_path: Path) -> None:
    file = policy(tmp_path, '{"silent_us": 2000000}')
    code, out, err = run("monitor", "--policy", file, "--from-start", "--output", "json")
    document = json.loads(out)
    assert code == 0
    assert [(name, params.silent_us, start) for name, params, start in asked] == [("monitor", 2_000_000, True)]
    assert document["policy"] == {"silent_us": [5_000_000, 2_000_000]}
    assert (document["agent"], document["difference_today"]) == ("monitor", None)
    assert document["changes"] == len(document["decisions"]) == sum(document["changes_by_kind"].values())
    first = document["decisions"][0]
    assert (first["kind"], first["was"], first["would_be"][0]["record"]) == ("idle tick", [], 3)
    assert first["time"] == "1970-01-01T00:00:00.250000Z"
    assert f"{document['changes']} decisions would be others, over {document['entries']} journal entries" in err


def test_the_table_and_its_limit(asked: list[Any], tmp_path: Path) -> None:
    code, out, err = run("monitor", "--policy", policy(tmp_path, "{}"), "--limit", "1")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "The policy is the one that is in force." in err
    assert "The newest 1 are shown; --limit 0 shows all." in err


def test_a_journal_that_todays_code_does_not_follow_is_said() -> None:
    said = sentences("monitor", outcome(spoiled=True), {"silent_us": [1, 2]})
    assert len(said) == 2
    assert "parts from the journal at offset" in said[1]
    assert "`isos replay monitor`" in said[1]


def test_what_is_no_policy(asked: list[Any], tmp_path: Path) -> None:
    code, out, err = run("monitor", "--policy", policy(tmp_path, '{"silent": 1, "pause_us": "x"}'))
    assert (code, out, len(err.splitlines())) == (2, "", 2)
    assert err.startswith("silent is no parameter; there are ")
    code, _, err = run("monitor", "--policy", str(tmp_path / "gone.json"))
    assert (code, err.endswith("gone.json cannot be read: No such file or directory.\n")) == (2, True)
    code, _, err = run("reviewer", "--policy", policy(tmp_path, "{}"))
    assert (code, err) == (2, "The reviewer has no parameters, so there is no other policy.\n")
    code, _, err = run("router", "--policy", policy(tmp_path, "{}"))
    assert (code, "agent router" in err) == (3, True)
    code, _, err = run("janitor", "--policy", policy(tmp_path, "{}"))
    assert (code, err.startswith("No decisions of an agent janitor are kept")) == (3, True)
    assert asked == []


def test_effects_in_few_words() -> None:
    assert effects_text([]) == "nothing"
    alert = {"topic": "control.alerts", "key": "a", "record": {"kind": "process_silent", "resolved": True}}
    plan = {"topic": "control.plans", "key": "m", "record": {"reason": "it has none"}}
    assert effects_text([alert, plan]) == "control.alerts a process_silent resolved; control.plans m it has none"
    assert len(effects_text([alert] * 5)) == WIDTH
    assert effects_text([{"topic": "t", "key": "k", "record": None}]) == "t k"
    step = {"decision": "scale_up", "current_replicas": 1, "target_replicas": 3, "reason": "More."}
    assert effects_text([{"topic": "s", "key": "p", "record": step}]) == "s p scale_up 1 -> 3 More."

"""`isos memory`: points in time, rows and the exported document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import infra.commands.memory as command
from infra.commands.memory import app, document, history_rows, parse_point, view_at
from streams.memory_view import StoredEvent
from tests.unit.streams.test_memory_view import chain

EVENTS = chain(("a", "1"), ("b", '{"x":[1]}'), ("a", "2"), ("b", None))


@pytest.fixture(autouse=True)
def _stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(ctx: object) -> list[StoredEvent]:
        return EVENTS

    monkeypatch.setattr(command, "read_events", read)


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_points() -> None:
    assert parse_point("12") == (12, None)
    assert parse_point("1970-01-01T00:00:01") == (None, 1_000_000)
    assert parse_point("1970-01-01T01:00:01.5+01:00") == (None, 1_500_000)
    with pytest.raises(ValueError, match="Invalid isoformat"):
        parse_point("yesterday")


def test_show_now_and_then() -> None:
    code, out, _ = run("show", "--output", "json")
    assert (code, [row["key"] for row in json.loads(out)]) == (0, ["a"])
    code, out, _ = run("show", "b", "--at", "3", "--output", "json")
    assert (code, json.loads(out)[0]["body"]) == (0, {"x": [1]})
    code, out, _ = run("show", "--at", "1970-01-01T00:00:00.000029+00:00", "--output", "json")
    assert [(row["key"], row["version"]) for row in json.loads(out)] == [("a", 1), ("b", 1)]
    code, out, err = run("show")
    assert code == 0
    assert "memory at sequence 4" in err


def test_what_is_not_there_is_exit_code_3() -> None:
    code, _, err = run("show", "zzz")
    assert (code, err) == (3, "Memory has no key that begins with zzz at sequence 4.\n")
    code, _, err = run("history", "zzz")
    assert (code, "never had a key zzz" in err) == (3, True)


def test_a_wrong_point_is_a_usage_error() -> None:
    code, _, err = run("show", "--at", "yesterday")
    assert (code, "neither a sequence nor a time" in err) == (2, True)


def test_history() -> None:
    rows = history_rows(EVENTS, "a")
    assert [(row["sequence"], row["version"], row["body"]) for row in rows] == [(1, 1, 1), (3, 2, 2)]
    assert history_rows(EVENTS, "b")[-1]["body"] is None
    code, out, _ = run("history", "a", "--output", "json")
    assert (code, json.loads(out)) == (0, rows)


def test_export(tmp_path: Path) -> None:
    view = view_at(EVENTS, (3, None))
    assert document(view)["entries"]["b"] == {"version": 1, "sequence": 2, "time_us": 20, "body": {"x": [1]}}
    assert document(view)["last_hash"] == EVENTS[2].value_hash.hex()
    code, _, err = run("export", str(tmp_path / "memory.json"), "--at", "3")
    assert (code, "2 keys at sequence 3" in err) == (0, True)
    assert json.loads((tmp_path / "memory.json").read_text()) == document(view)
    code, out, _ = run("export")
    assert json.loads(out)["sequence"] == 4
    code, _, err = run("export", str(tmp_path / "no" / "memory.json"))
    assert (code, "cannot be written" in err) == (1, True)

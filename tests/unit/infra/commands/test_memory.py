"""`isos memory`: points in time, rows, the exported document, and what a check prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import infra.commands.memory as command
from infra.commands.memory import app, document, history_rows, parse_point, view_at
from streams.chain_check import Report
from streams.link_check import head_text
from streams.memory_fold import StoredEvent
from streams.memory_view import MemoryHead
from tests.unit.streams.test_chain_check import LOG, Log, check, states_of, view_of
from tests.unit.streams.test_memory_fold import chain

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
    for verb in ("show", "export"):
        assert run(verb, "--at", "5") == (3, "", "Memory has reached sequence 4; there is no 5 yet.\n")
    assert run("show", "--at", "1970-01-01") == (0, "", "memory at sequence 0: empty\n")


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


def verify(monkeypatch: pytest.MonkeyPatch, log: Log, *arguments: str) -> tuple[int, str, str]:
    def checked(ctx: object, noted: MemoryHead | None) -> Report:
        return check(log, states_of(log), noted)

    monkeypatch.setattr(command, "check", checked)
    return run("verify", *arguments)


def test_verify_prints_the_head_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = verify(monkeypatch, LOG, "--output", "json")
    made = json.loads(out)
    assert (code, err, made["sound"], made["records"], made["faults"], made["voids"]) == (0, "", True, 5, [], [])
    assert made["head"] == head_text(view_of(LOG).head)
    assert verify(monkeypatch, LOG, "--head", made["head"])[0] == 0
    code, _, err = verify(monkeypatch, LOG[:3], "--head", made["head"])
    assert (code, "its end was cut off" in err) == (7, True)


def test_verify_names_the_first_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = verify(monkeypatch, [*LOG[:1], b"changed", *LOG[2:]], "--output", "json")
    assert code == 7
    assert json.loads(out)["faults"][0] | {"what": ""} == {
        "topic": "isos.memory.events.v1",
        "partition": 0,
        "offset": 1,
        "sequence": 2,
        "what": "",
    }
    assert err.startswith("broken: memory.events/0, offset 1, sequence 2: it should be sequence 2 and was changed")


def test_verify_lists_what_readers_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = verify(monkeypatch, [*LOG, *[b"theirs"] * 25])
    assert code == 0
    assert "25" in out.splitlines()[1].split()
    assert err.count("void: memory.events/0, offset ") == 20
    assert "void: and 5 more" in err


def test_verify_takes_only_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = verify(monkeypatch, LOG, "--head", "12")
    assert (code, "a head is SEQUENCE:HASH" in err) == (2, True)

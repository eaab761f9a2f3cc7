"""``isos audit``: list with filters, export, verify with its exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.audit_check
import streams.provision
from infra.audit_key import audit_key, note_head
from infra.commands.audit import app
from infra.settings import load_settings
from streams.audit_check import AuditCheck
from streams.link_check import Anchor, head_text
from streams.memory_view import MemoryHead
from tests.support.audit import CODEC, DECODE, KEYS, AuditValues, T, audit_log

RUN = CliRunner()
LOG = audit_log(8, every=4)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes | None]:
    """The values that stand in the log; tests change them in place."""
    values: AuditValues = list(LOG.values)
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))

    async def check(connection: Any, anchors: Sequence[Anchor], now_us: int, progress: Any) -> Any:
        made = AuditCheck(DECODE, KEYS, 0, anchors)
        for offset, value in enumerate(values):
            made.record(offset, value)
        return made.report(len(values), T + 9_000_000), KEYS

    async def read(connection: Any, since_us: int, take: Any, progress: Any) -> None:
        for offset, value in enumerate(values):
            take(offset, CODEC.decode("audit.log", value))

    async def partitions(connection: Any, names: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(names, 1) if values else {}

    monkeypatch.setattr(infra.audit_check, "check_audit", check)
    monkeypatch.setattr(infra.audit_check, "read_entries", read)
    monkeypatch.setattr(streams.provision, "topic_partitions", partitions)
    return values


def test_the_list_shows_records_and_no_heads(log: Any) -> None:
    done = RUN.invoke(app, ["list", "--output", "json"])
    found = json.loads(done.stdout)
    assert [each["sequence"] for each in found] == [1, 2, 3, 5, 6, 7]
    assert found[0]["operation"] == "models.activate"
    newest = RUN.invoke(app, ["list", "--limit", "2", "--output", "jsonl"])
    assert [json.loads(line)["sequence"] for line in newest.stdout.splitlines()] == [6, 7]
    assert "2 of 6 records; --limit 0 shows all." in newest.stderr
    for option, value, num in (("--user", "bob", 0), ("--model", "digits", 6), ("--operation", "memory.", 0)):
        assert len(json.loads(RUN.invoke(app, ["list", option, value, "--output", "json"]).stdout)) == num
    assert "alice" in RUN.invoke(app, ["list"]).stdout
    nobody = RUN.invoke(app, ["list", "--user", "bob"])
    assert (nobody.exit_code, nobody.stdout, nobody.stderr) == (0, "", "The audit log has no such record.\n")


def test_an_outcome_that_there_is_not(log: Any) -> None:
    wrong = RUN.invoke(app, ["list", "--outcome", "maybe"])
    assert (wrong.exit_code, "'maybe' is none of pending, done" in wrong.stderr) == (2, True)


def test_the_export_is_json_lines(log: Any, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["export", str(tmp_path / "audit.jsonl")])
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert (done.exit_code, len(lines)) == (0, 6)
    assert {json.loads(line)["service"] for line in lines} == {"ml-serving"}
    assert RUN.invoke(app, ["export"]).stdout.splitlines() == lines
    log.clear()
    away = RUN.invoke(app, ["export", str(tmp_path / "audit.jsonl")])
    assert (away.exit_code, (tmp_path / "audit.jsonl").read_text().splitlines()) == (3, lines)


def test_a_file_that_cannot_be_written(log: Any, tmp_path: Path) -> None:
    refused = RUN.invoke(app, ["export", str(tmp_path)])
    assert (refused.exit_code, "cannot be written" in refused.stderr) == (1, True)


def test_a_whole_log_is_exit_code_0_and_a_changed_one_7(log: Any) -> None:
    sound = RUN.invoke(app, ["verify", "--output", "json"])
    found = json.loads(sound.stdout)
    assert (sound.exit_code, found["sound"], found["head"]) == (0, True, head_text(LOG.point.head))
    assert (found["entries"], found["heads"], found["signed"]) == (8, 2, 7)
    kept = log.pop()
    cut = RUN.invoke(app, ["verify", "--head", found["head"]])
    assert (cut.exit_code, "its end was cut off" in cut.stderr) == (7, True)
    log += [kept, b"?"]
    foreign = RUN.invoke(app, ["verify"])
    assert foreign.exit_code == 7
    assert "foreign: audit.log/0, offset 8: it cannot be read" in foreign.stderr


def test_the_head_and_the_key_of_this_machine_count_too(log: Any) -> None:
    settings = load_settings()
    note_head(settings, MemoryHead(9, b"\x09" * 32))
    cut = RUN.invoke(app, ["verify"])
    assert (cut.exit_code, "the noted head is 9" in cut.stderr) == (7, True)
    note_head(settings, LOG.point.head)
    assert RUN.invoke(app, ["verify"]).exit_code == 0
    audit_key(settings)
    other = RUN.invoke(app, ["verify"])
    assert (other.exit_code, "memory has another key of the audit log" in other.stderr) == (7, True)


def test_what_is_no_head_and_no_time_is_exit_code_2(log: Any) -> None:
    assert RUN.invoke(app, ["verify", "--head", "nonsense"]).exit_code == 2
    assert RUN.invoke(app, ["list", "--since", "whenever"]).exit_code == 2


def test_without_an_audit_log_it_is_exit_code_3(log: Any) -> None:
    log.clear()
    for verb in ("list", "verify", "export"):
        done = RUN.invoke(app, [verb])
        assert (done.exit_code, "isos topics provision" in done.stderr) == (3, True)

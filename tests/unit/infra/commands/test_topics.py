"""The table that ``isos topics list`` prints, and its words for an absent broker."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from infra.commands import topics
from infra.commands.topics import app, retention
from streams.provision import ALL

RUN = CliRunner()


def test_the_table_needs_no_broker() -> None:
    done = RUN.invoke(app, ["list", "--offline", "--output", "json"])
    rows = {row["topic"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 0
    assert set(rows) == {topic.full_name for topic in ALL.values()}
    assert rows["isos.inference.results.v1"]["writers"] == "validator"
    assert rows["isos.control.journal.v1"]["writers"] == "control agents"
    assert rows["isos.inference.dlq.v1"]["record"] == "bytes"
    assert "on_broker" not in rows["_schemas"]


@pytest.mark.parametrize("arguments", [["list"], ["provision"]])
def test_no_broker_is_one_sentence_and_exit_6(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 6
    assert done.stderr.startswith("The broker does not answer: ")
    assert done.stderr.count("\n") == 1


def test_growth_needs_to_know_of_what() -> None:
    done = RUN.invoke(app, ["grow"])
    assert done.exit_code == 2
    assert "--partitions" in done.stderr


@pytest.mark.parametrize(
    ("partitions", "exit_code", "words"), [("1", 4, "take some away"), ("4", 0, "before the next")]
)
def test_growth_says_what_it_would_do(
    partitions: str, exit_code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "_ask", lambda _settings: dict.fromkeys(ALL, 2))
    done = RUN.invoke(app, ["grow", "--partitions", partitions, "--dry-run", "--output", "json"])
    assert done.exit_code == exit_code
    assert words in done.stderr
    if exit_code == 0:
        assert [row["topic"] for row in json.loads(done.stdout)][-1] == "inference.requests"


@pytest.mark.parametrize(("ms", "text"), [(-1, "for ever"), (7_200_000, "2 h"), (7 * 86_400_000, "7 d")])
def test_retention_in_words(ms: int, text: str) -> None:
    assert retention(ms) == text

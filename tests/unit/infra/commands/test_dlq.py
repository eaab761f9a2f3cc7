"""What `isos dlq` refuses before it asks a broker; the rest is in tests/integration/test_dead_letters.py."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.dlq import parse_time


def isos(*arguments: str):
    return CliRunner().invoke(app, ["--set", "brokers=127.0.0.1:1", "dlq", *arguments])


@pytest.mark.parametrize("arguments", [(), ("inference.requests/0/1", "--all"), ("x/0/1", "--code", "garbage")])
def test_a_redrive_needs_ids_or_a_choice_and_not_both(arguments):
    done = isos("redrive", *arguments)
    assert done.exit_code == 2
    assert "name letters, or choose them" in done.output


@pytest.mark.parametrize("arguments", [("list",), ("show", "a/0/1"), ("redrive", "--all")])
def test_a_broker_that_is_away_is_one_sentence(arguments):
    done = isos(*arguments)
    assert done.exit_code == 6
    assert "The broker does not answer" in done.output


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("30m", 1_000_000_000 - 1_800_000),
        ("2h", 1_000_000_000 - 7_200_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_times_and_spans(text, ms):
    assert parse_time(text, 1_000_000_000, "--since") == ms


def test_what_is_no_time_is_refused():
    with pytest.raises(typer.BadParameter, match="neither a time nor a span"):
        parse_time("yesterday", 0, "--since")

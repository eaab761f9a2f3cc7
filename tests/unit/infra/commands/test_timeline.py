"""`isos timeline`: spans and times, what it refuses, its exit codes; the broker is in the integration test."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.timeline import moment, table_row
from infra.timeline import Line

NOW_US = 1_700_000_000_000_000


def isos(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["--set", "brokers=127.0.0.1:1", "timeline", *arguments])


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("", 0),
        ("90s", NOW_US - 90_000_000),
        ("15m", NOW_US - 900_000_000),
        ("2h", NOW_US - 7_200_000_000),
        ("1d", NOW_US - 86_400_000_000),
        ("2023-11-14T22:13:20", NOW_US),
        ("2023-11-14T23:13:20+01:00", NOW_US),
    ],
)
def test_since_is_a_span_or_a_time(text: str, expected_us: int) -> None:
    assert moment(text, NOW_US) == expected_us


@pytest.mark.parametrize("text", ["yesterday", "15", "m", "1w", "2023-13-01"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text, NOW_US)
    assert isos("--since", text).exit_code == 2


def test_a_broker_that_is_away_is_one_sentence() -> None:
    done = isos()
    assert done.exit_code == 6
    assert "The broker does not answer" in done.output


def test_a_row_has_the_seconds_since_the_first_and_a_reason_in_one_line() -> None:
    line = Line(NOW_US + 1_500_000, "scaler", "hold", "executors", "a\nb " + "x" * 200, "control.scale-actions", 0)
    shown = table_row(line, NOW_US)
    assert (shown["time"], shown["s"]) == ("22:13:21.500", "1.5")
    assert shown["reason"].startswith("a b x")
    assert len(shown["reason"]) == 100

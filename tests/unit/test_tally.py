"""The sum of several test runs is the last line of ``make test``."""

from __future__ import annotations

from pathlib import Path

from tests.support.tally import Part, append, read, summary


def test_parts_are_kept_in_order_and_the_last_line_is_their_sum(tmp_path: Path) -> None:
    parts = [Part("tests/unit", 900, 0, 60.0), Part("tests/sim", 7, 0, 30.25)]
    for part in parts:
        append(tmp_path / "tally", part)
    assert read(tmp_path / "tally") == parts
    assert summary(parts)[-1] == "907 passed in 90.25s"
    assert [line.split()[0] for line in summary(parts)[:-1]] == ["tests/unit", "tests/sim"]


def test_a_failure_is_in_the_sum() -> None:
    assert summary([Part("tests/unit", 2, 1, 1.0)])[-1] == "1 failed, 2 passed in 1.00s"

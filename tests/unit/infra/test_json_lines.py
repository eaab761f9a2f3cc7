"""A person's file of JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.json_lines import json_lines


def test_empty_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": 1}\n\n  \n[2]\n')
    assert list(json_lines(path, ValueError)) == [(1, {"x": 1}), (4, [2])]


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'1\n\xff{"x"\n')
    lines = json_lines(path, KeyError)
    assert next(lines) == (1, 1)
    with pytest.raises(KeyError, match="line 2 is not JSON: "):
        next(lines)


def test_a_line_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[" * 200_000)
    with pytest.raises(KeyError, match="line 1 is not JSON: "):
        next(json_lines(path, KeyError))

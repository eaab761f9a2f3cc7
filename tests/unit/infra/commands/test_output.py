"""Data on stdout in four forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from infra.commands.output import Output, broker_answers, widest, write, yaml_lines
from streams.errors import PoisonRecordError, RetriableError

ROWS: list[dict[str, Any]] = [{"name": "a", "size": 1}, {"name": "b", "size": None}]


def written(capsys: pytest.CaptureFixture[str], output: Output, **more: Any) -> str:
    write(ROWS, output, **more)
    return capsys.readouterr().out


def test_json_is_the_rows_or_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(written(capsys, Output.JSON)) == ROWS
    assert json.loads(written(capsys, Output.JSON, document={"rows": 2})) == {"rows": 2}


def test_json_lines_are_one_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert [json.loads(line) for line in written(capsys, Output.JSONL).splitlines()] == ROWS


def test_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys, Output.YAML) == '- name: "a"\n  size: 1\n- name: "b"\n  size: null\n'


def test_a_table_has_a_head_and_a_dash_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split() for line in written(capsys, Output.TABLE).splitlines()] == [
        ["name", "size"],
        ["a", "1"],
        ["b", "-"],
    ]


def test_an_empty_table_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    write([], Output.TABLE)
    assert capsys.readouterr().out == ""


def test_a_table_that_is_too_wide_is_cut_where_it_is_widest(capsys: pytest.CaptureFixture[str]) -> None:
    write([{"time": "06:25:31.120", "s": "0.1", "subject": "s" * 60, "reason": "r" * 300}], Output.TABLE)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["time", "s", "subject", "reason"]
    assert row.split()[:2] == ["06:25:31.120", "0.1"]
    assert len(row.rstrip()) == 200
    assert ("s" * 60 in row, row.rstrip()[-2:]) == (True, "r…")


@pytest.mark.parametrize(
    ("columns", "place", "most"),
    [((5, 9), 80, 9), ((5, 300), 80, 73), ((100, 300), 80, 39), ((100, 300, 300), 80, 26), ((30,) * 9, 80, 26)],
)
def test_the_widest_columns_give_way(columns: tuple[int, ...], place: int, most: int) -> None:
    assert widest(columns, place) == most


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8))
def test_yaml_has_a_line_for_every_scalar(value: Any) -> None:
    scalars = [json.dumps(leaf) for leaf in leaves(value)]
    text = "\n".join(yaml_lines(value))
    assert [scalar for scalar in scalars if scalar not in text] == []


def leaves(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


def test_yaml_nests_maps_in_lists() -> None:
    assert yaml_lines({"a": [{"b": 1, "c": [2]}], "d": []}) == [
        "a:",
        "  - b: 1",
        "    c:",
        "      - 2",
        "d: []",
    ]


def test_a_broker_that_does_not_answer_is_one_sentence_and_6(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, broker_answers():
        raise RetriableError("connecting took longer than 5 s")
    assert caught.value.exit_code == 6
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), "`isos up`" in said.err) == ("", 1, True)


def test_what_is_wrong_elsewhere_is_passed_on() -> None:
    with pytest.raises(PoisonRecordError), broker_answers():
        raise PoisonRecordError("garbage", "no record")


def test_a_table_shows_what_others_wrote_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup, and nothing moves the cursor of who has to decide."""
    write([{"author": "[/x] [red]ann[/red]", "reason": "\x1b[2Kfine\x9b"}], Output.TABLE)
    out = capsys.readouterr().out
    assert "[/x] [red]ann[/red]" in out
    assert "?[2Kfine?" in out

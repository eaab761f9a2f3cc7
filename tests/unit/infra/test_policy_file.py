"""Policy files: what a file may say, and one sentence for each thing that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import infra.policy_file as policy_file
from agents.constraint import Constraint, Rule
from agents.monitor import Params
from agents.researcher import Params as ResearcherParams
from infra.policy_file import PolicyFileError, changes, read_policy, with_policy

WANTED = {"silent_us": 2_000_000, "breaker": {"min_rows": 5}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '{"silent_us": 2000000, "breaker": {"min_rows": 5}}'),
        ("p.toml", "silent_us = 2_000_000\n[breaker]\nmin_rows = 5\n"),
        ("p.yaml", "silent_us: 2000000\nbreaker:\n  min_rows: 5\n"),
        ("P.YML", "{silent_us: 2000000, breaker: {min_rows: 5}}"),
    ],
)
def test_three_ways_to_write_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_policy(tmp_path / name) == WANTED


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", "", "p.txt must end in .json, .toml, .yaml, .yml"),
        ("p.json", "{", "p.json cannot be read: Expecting property name"),
        ("p.toml", "a = ", "p.toml cannot be read: Invalid value"),
        ("p.yaml", "a: [", "p.yaml cannot be read: while parsing"),
        ("gone.json", None, "gone.json cannot be read: No such file or directory."),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(PolicyFileError) as caught:
        read_policy(tmp_path / name)
    (sentence,) = caught.value.sentences
    assert said in sentence
    assert "\n" not in sentence


def test_without_pyyaml_the_other_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text("a: 1")
    monkeypatch.setattr(policy_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PolicyFileError, match="PyYAML is not installed; JSON and TOML need nothing"):
        read_policy(tmp_path / "p.yaml")


def test_what_is_not_named_stays() -> None:
    params = with_policy(Params(), WANTED)
    assert (params.silent_us, params.pause_us) == (2_000_000, Params().pause_us)
    assert (params.breaker.min_rows, params.breaker.open_us) == (5, Params().breaker.open_us)
    assert changes(Params(), params) == {"silent_us": [5_000_000, 2_000_000], "breaker.min_rows": [20, 5]}
    assert with_policy(Params(), {}) == Params()
    assert changes(Params(), Params()) == {}


def test_records_in_lists_are_built() -> None:
    rule = {"rule_id": "r", "subject": "model/*", "constraint": {"field": "timeout_ms", "maximum": 5}}
    wanted = Rule("r", "model/*", Constraint("timeout_ms", 5))
    with pytest.raises(PolicyFileError, match="rules cannot be .*: expected int, found str"):
        with_policy(ResearcherParams(), {"rules": [{**rule, "constraint": {"field": "timeout_ms", "maximum": "5"}}]})
    params = with_policy(ResearcherParams(), {"rules": [rule]})
    assert params == ResearcherParams((wanted,))
    assert changes(ResearcherParams(), params)["rules"][0] == []


def test_every_wrong_field_has_its_sentence() -> None:
    wrong = {
        "silent_us": "2s",
        "pause_us": True,
        "forget_us": 1.5,
        "quiet_us": -1,
        "slient_us": 5,
        "breaker": {"min_rows": None, "open": 3},
    }
    with pytest.raises(PolicyFileError) as caught:
        with_policy(Params(), wrong)
    said = caught.value.sentences
    assert said[:4] == (
        'silent_us cannot be "2s": expected int, found str.',
        "pause_us cannot be true: expected int, found bool.",
        "forget_us cannot be 1.5: expected int, found float.",
        "quiet_us must not be negative, but is -1.",
    )
    assert said[4].startswith("slient_us is no parameter; there are bound_us, breaker, drift, forget_us,")
    assert said[5] == "breaker.min_rows cannot be null: expected int, found NoneType."
    assert said[6].startswith("breaker.open is no parameter; there are ")
    assert len(said) == 7
    assert str(caught.value) == "\n".join(said)


@pytest.mark.parametrize("wanted", [None, [], "silent_us", 5])
def test_a_policy_is_a_table(wanted: object) -> None:
    with pytest.raises(PolicyFileError, match="A policy is a table"):
        with_policy(Params(), wanted)
    with pytest.raises(PolicyFileError, match="breaker is a table of parameters, not"):
        with_policy(Params(), {"breaker": wanted})

"""The rules file: ours is valid, an own one replaces it, a wrong one is named in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.constraint import Constraint, Rule
from infra.rules import load_rules
from infra.settings import StartError

GOOD = '[[rule]]\nid = "a"\nsubject = "model/digits"\nfield = "timeout_ms"\nmaximum = 5\n'
BAN = '[[rule]]\nid = "b"\nsubject = "model/*"\nfield = "not_allowed_tenant"\nnames = ["acme"]\nsource = "the law"\n'


def test_the_file_that_comes_with_the_program(tmp_path: Path) -> None:
    rules = load_rules(tmp_path)
    assert [rule.rule_id for rule in rules] == ["batch-contract", "longest-timeout"]
    assert rules[0].constraint == Constraint("max_batch_size", 128)


def test_an_own_file_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(GOOD)
    assert load_rules(tmp_path) == (Rule("a", "model/digits", Constraint("timeout_ms", 5), "rules file"),)
    (tmp_path / "rules.toml").write_text(BAN)
    ban = Constraint("not_allowed_tenant", names=("acme",))
    assert load_rules(tmp_path) == (Rule("b", "model/*", ban, "the law"),)
    (tmp_path / "rules.toml").write_text("")
    assert load_rules(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[rule", "cannot be read"),
        (GOOD + GOOD, "two rules have the same id"),
        (GOOD.replace("timeout_ms", "colour"), "wrong at rule.0.field"),
        (GOOD.replace("5", "-1"), "wrong at rule.0.maximum"),
        (GOOD.replace("5", "0"), "wrong at rule.0: .* takes a maximum of at least 1"),
        (GOOD + 'names = ["acme"]\n', "wrong at rule.0: .* takes a maximum of at least 1 and no names"),
        (BAN.replace("names", "maximum = 5\nnames"), "wrong at rule.0: .* takes names and no maximum"),
        (BAN.replace('"acme"', '""'), "wrong at rule.0.names.0"),
        (GOOD.replace("model/digits", "digits"), "wrong at rule.0.subject"),
        (GOOD + "more = 1\n", "wrong at rule.0.more"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(StartError, match=sentence):
        load_rules(tmp_path)

"""The Orchestrator's rule for golden sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.orchestrator import COMMANDS, judge
from agents.verdict import Change, Refusal, State, Value
from schemas.check import GoldenSet
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion, TensorSpec
from streams.canonical import to_json

MODEL = ModelVersion("digits", "v1.0.0", "ab" * 32, 10, (), (TensorSpec("classes", "INT64", (3,)),))
STATE = State(values={"model/digits/v1.0.0": Value(1, to_json(MODEL))})
SET = GoldenSet("digits", "ab" * 32, 4_000, 540, "labels", "classes", 950_000)


def command(golden: GoldenSet, key: str = "", agent: str = "cli") -> MemoryCommand:
    key = key or f"golden/{golden.model}"
    return MemoryCommand("c1", agent, "SetGoldenSet", key, -1, to_json(golden), "", (), 1)


def test_a_set_stands_under_its_model() -> None:
    assert judge(STATE, command(SET)) == (Change("GoldenSetSet", "golden/digits", to_json(SET)),)
    outputs = replace(SET, kind="outputs", output="", tolerance=1e-4)
    assert judge(STATE, command(outputs)) == (Change("GoldenSetSet", "golden/digits", to_json(outputs)),)
    standing = replace(STATE, values={**STATE.values, "golden/digits": Value(1, to_json(SET))})
    assert judge(standing, command(SET)) == ()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (command(SET, key="golden/others"), "invalid_body"),
        (command(replace(SET, model="others")), "unknown_model"),
        (command(replace(SET, num_rows=0)), "invalid_golden_set"),
        (command(replace(SET, digest="short")), "invalid_golden_set"),
        (command(replace(SET, output="scores")), "invalid_golden_set"),
        (command(SET, agent="planner"), "not_permitted"),
        (replace(command(SET), body="{}"), "invalid_body"),
    ],
)
def test_what_is_refused(given: MemoryCommand, code: str) -> None:
    verdict: Any = judge(STATE, given)
    assert isinstance(verdict, Refusal)
    assert verdict.code == code
    assert verdict.message[0].isupper() or verdict.message.startswith("planner")
    assert verdict.message.endswith(".")


def test_only_people_set_it() -> None:
    assert COMMANDS["SetGoldenSet"][0] == frozenset({"cli", "operator"})

"""Requests for checks and observations mirror their schema files; a golden set says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.check import CheckRequest, GoldenSet, Observation
from streams.canonical import from_json, to_json
from tests.support.schema_mirror import assert_mirrors

SET = GoldenSet("digits", "ab" * 32, 4_000, 540, "labels", "classes", 950_000)


@pytest.mark.parametrize("cls", [CheckRequest, Observation])
def test_mirrors_its_schema(cls: type) -> None:
    assert_mirrors(cls)


def test_a_golden_set_comes_back() -> None:
    assert SET.problem == ""
    for golden in (SET, replace(SET, kind="outputs", output="", tolerance=1e-5)):
        assert from_json(GoldenSet, to_json(golden)) == golden
        assert golden.problem == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_rows": 0}, "a golden set has 1 to 2,000 rows, not 0"),
        ({"num_rows": 2_001}, "a golden set has 1 to 2,000 rows, not 2,001"),
        ({"size_bytes": 8_388_609}, "a golden set has at most 8,388,608 bytes, not 8,388,609"),
        ({"min_accuracy_ppm": 0}, "the least accuracy is above 0 and at most 1, not 0"),
        ({"min_accuracy_ppm": 1_000_001}, "the least accuracy is above 0 and at most 1, not 1"),
        ({"tolerance": -0.1}, "the tolerance is 0 to 1, not -0.1"),
        ({"output": ""}, "labels are compared with an output, and none is named"),
    ],
)
def test_what_is_wrong_with_a_golden_set(change: dict[str, Any], problem: str) -> None:
    assert replace(SET, **change).problem.startswith(problem)

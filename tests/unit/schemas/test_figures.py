"""Figures of checks come back from their JSON, also from that of a later release."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.figures import (
    AnswerFigures,
    DriftFigures,
    FeatureDrift,
    GoldenFigures,
    HeldArtefact,
    IntegrityFigures,
    StatisticsFigures,
)
from streams.canonical import from_json, to_json


@pytest.mark.parametrize(
    "figures",
    [
        GoldenFigures("ab" * 32, 540, 538, 530, "overloaded"),
        AnswerFigures("traffic", 40, 38, 1, 1, 0, 0, (0, 0, 38), "internal"),
        IntegrityFigures("ab" * 32, (HeldArtefact("executor-0", "cd" * 32),)),
        StatisticsFigures(100, 3, 6_400, 2, 1),
        DriftFigures((FeatureDrift("image/3", 0.25, 500, 1_000),)),
    ],
    ids=lambda figures: type(figures).__name__,
)
def test_they_come_back(figures: Any) -> None:
    assert from_json(type(figures), to_json(figures)) == figures
    assert from_json(type(figures), '{"later":1,' + to_json(figures)[1:], newer=True) == figures

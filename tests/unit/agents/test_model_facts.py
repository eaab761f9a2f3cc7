"""Facts of models, folded from memory's events."""

from __future__ import annotations

from typing import Any

import pytest

from agents.check_rules import Facts
from agents.model_facts import fold_facts
from schemas.check import GoldenSet
from schemas.memory import MemoryEvent
from schemas.plan import Plan, VersionWeight
from schemas.serving import ServingPolicy, Slo
from streams.canonical import to_json
from streams.memory_view import ActiveVersion
from tests.support.control import model_version

GOLDEN = GoldenSet("digits", "ab" * 32, 4_000, 540, "labels", "classes", 950_000)
SLO = Slo(250, 10_000)


def change(kind: str, body: Any, key: str = "key") -> MemoryEvent:
    text = body if isinstance(body, str | None) else to_json(body)
    return MemoryEvent(1, bytes(32), "c", "cli", kind, key, 1, text, "", (), 5)


def test_each_event_adds_what_it_says() -> None:
    models: Any = {}
    for kind, body in (
        ("ModelRegistered", model_version()),
        ("ModelRegistered", model_version(version="v2.0.0", digest="cd" * 32)),
        ("VersionActivated", ActiveVersion("digits", "v1.0.0")),
        ("VersionRolledBack", ActiveVersion("digits", "v2.0.0")),
        ("ServingPolicySet", ServingPolicy("digits", slo=SLO)),
        ("PlanMadeEffective", Plan("digits", (VersionWeight("v2.0.0", 100),), 64, 1_234)),
        ("GoldenSetSet", GOLDEN),
    ):
        models = fold_facts(models, change(kind, body))
    digests = {"v1.0.0": "ab" * 32, "v2.0.0": "cd" * 32}
    assert models == {"digits": Facts(digests, "v2.0.0", GOLDEN, SLO, 1_234)}


@pytest.mark.parametrize("kind", ["CommandRejected", "ModelRegistered", "GoldenSetSet", "PlanMadeEffective"])
def test_what_says_nothing_or_cannot_be_read_changes_nothing(kind: str) -> None:
    models = {"digits": Facts()}
    assert fold_facts(models, change(kind, '{"what":1}')) is models
    assert fold_facts(models, change(kind, None)) is models

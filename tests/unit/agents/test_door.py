"""What rules keep out at the door, with the rule's name; nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.constraint import Constraint
from agents.door import barred
from schemas.memory import MemoryEntry
from schemas.model import TensorSpec
from schemas.review import ContextSignal
from streams.canonical import to_json
from streams.memory_view import MemoryView
from tests.support.frames import MODEL

AGED = replace(MODEL, inputs=(TensorSpec("x", "FP32", (2,)), TensorSpec("age", "FP32", (1,))))


def ruled(*rules: tuple[str, str, Constraint]) -> MemoryView:
    """Memory with rules: id, subject, constraint."""
    entries = {}
    for rule_id, subject, constraint in rules:
        signal = ContextSignal(rule_id, "constraint", subject, to_json(constraint), "the law", 1)
        entries[f"context/{rule_id}"] = MemoryEntry(f"context/{rule_id}", 1, 1, to_json(signal), 1)
    return MemoryView(1, b"h" * 32, 1, entries)


RULED = ruled(
    ("t", "model/digits", Constraint("not_allowed_tenant", names=("acme",))),
    ("r", "model/*", Constraint("not_allowed_region", names=("eu-west",))),
    ("f", "model/digits", Constraint("features_not_used", names=("age",))),
    ("b", "model/*", Constraint("max_batch_size", 8)),
)


@pytest.mark.parametrize(
    ("tenant", "model", "region", "why"),
    [
        ("acme", MODEL, "", "model digits is not allowed for tenant acme (the law, rule t)"),
        ("other", MODEL, "eu-west", "model digits is not allowed in region eu-west (the law, rule r)"),
        ("other", AGED, "", "digits v1.0.0 takes the input age, which may not be used (the law, rule f)"),
        ("other", MODEL, "us-east", ""),
        ("acme", replace(AGED, model="letters"), "", ""),
        (
            "acme",
            replace(AGED, model="letters"),
            "eu-west",
            "model letters is not allowed in region eu-west (the law, rule r)",
        ),
    ],
)
def test_barred(tenant: str, model: object, region: str, why: str) -> None:
    assert barred(tenant, model, RULED, region) == why  # type: ignore[arg-type]


def test_without_bans_nobody_is() -> None:
    assert barred("acme", AGED, ruled(("b", "model/*", Constraint("max_batch_size", 8))), "eu-west") == ""
    assert barred("acme", AGED, MemoryView()) == ""

"""Kept verdicts: of which requests there is one, how long it stands, and what it costs to ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.admission import AdmissionPolicy, admit
from schemas.model import TensorSpec
from schemas.request import InferenceRequest, Tensor
from streams.codec import Codec, SchemaIds
from streams.edge import signature
from streams.edge.request_columns import DATA, parts_of, signature_of
from streams.edge.signature import Signature, Signatures
from streams.record_columns import RecordColumns
from tests.support.fake_kafka import record
from tests.support.frames import MODEL, memory

CODEC = Codec(SchemaIds.local())
PREFIX = CODEC.prefix("inference.requests")
GOOD = InferenceRequest("r1", "digits", (Tensor("x", "FP32", (2, 2), bytes(16)),), "acme", None, 3, 700)
MIXED = replace(
    MODEL, model="mixed",
    inputs=(
        TensorSpec("a", "INT8", (1,)), TensorSpec("b", "FP64", (1,)), TensorSpec("c", "FP16", (1,), allow_nan=True),
    ),
)  # fmt: skip


class Rule:
    """The real rule, counted."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.view = memory(MODEL, MIXED, replace(MODEL, model="flags", inputs=(TensorSpec("f", "BOOL", (1,)),)))

    def __call__(self, request: InferenceRequest) -> Any:
        self.num_asked += 1
        return admit(request, self.view, AdmissionPolicy())


def asked(signatures: Signatures, request: InferenceRequest) -> Signature | None:
    columns = RecordColumns.of("t", 0, [record(CODEC.encode("inference.requests", request), 0)])
    parts, _, firsts = parts_of(columns.data, columns.table, PREFIX, 1 << 20)
    assert firsts == [0]
    pieces = signature_of(columns.data, parts, 0)
    sizes = (parts[DATA + 1 :: 2, 0] - parts[DATA::2, 0])[: len(pieces) - 1].tolist()
    return signatures.get(pieces, tuple(sizes))


def opened(rule: Rule) -> Signatures:
    made = Signatures(CODEC, rule)
    made.begin(1, PREFIX)
    return made


def test_a_signature_is_judged_when_it_is_met_again_and_then_kept() -> None:
    rule = Rule()
    signatures = opened(rule)
    assert (asked(signatures, GOOD), rule.num_asked) == (None, 0)
    found = asked(signatures, replace(GOOD, request_id="r2", routing_key="k"))
    assert found is not None
    assert (found.tenant, found.model, found.version, found.priority) == ("acme", "digits", "", 3)
    assert (found.items, found.timeout_us) == (2, 700_000)
    assert (found.heads, found.tensors, found.widths) == ((("x", "FP32", (2,)),), (0,), (4, 0, 0, 0))
    num_asked = rule.num_asked
    assert asked(signatures, replace(GOOD, request_id="r3")) is found
    assert rule.num_asked == num_asked


def test_another_sequence_is_another_verdict() -> None:
    rule = Rule()
    signatures = opened(rule)
    assert [asked(signatures, GOOD) is None for _ in range(2)] == [True, False]
    rule.view = memory(replace(MODEL, inputs=(TensorSpec("x", "FP32", (2,), allow_nan=True),)))
    assert asked(signatures, GOOD).widths[0] == 4  # type: ignore[union-attr]
    signatures.begin(1, PREFIX)
    assert asked(signatures, GOOD).widths[0] == 4  # type: ignore[union-attr]
    signatures.begin(2, PREFIX)
    assert asked(signatures, GOOD).widths[0] == 0  # type: ignore[union-attr]


def test_tensors_in_another_order_than_the_models() -> None:
    signatures = opened(Rule())
    inputs = (
        Tensor("c", "FP16", (1, 1), bytes(2)),
        Tensor("a", "INT8", (1, 1), b"1"),
        Tensor("b", "FP64", (1, 1), bytes(8)),
    )
    request = replace(GOOD, model="mixed", inputs=inputs)
    asked(signatures, request)
    found = asked(signatures, request)
    assert found is not None
    assert [head[0] for head in found.heads] == ["a", "b", "c"]
    assert (found.tensors, found.widths) == ((1, 2, 0), (0, 0, 8, 0))


@pytest.mark.parametrize(
    "other",
    [
        {"model": "nobody"},
        {"tenant": "no tenant"},
        {"priority": 11},
        {"inputs": (Tensor("x", "FP32", (2, 3), bytes(16)),)},
        {"model": "flags", "inputs": (Tensor("f", "BOOL", (1, 1), b"\1"),)},
        {"version": "v9.9.9"},
    ],
    ids=str,
)
def test_what_is_refused_or_means_more_than_numbers_has_no_verdict(other: dict[str, Any]) -> None:
    rule = Rule()
    signatures = opened(rule)
    assert [asked(signatures, replace(GOOD, **other)) for _ in range(3)] == [None] * 3
    assert rule.num_asked <= 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MAX_KEPT", 5)
    signatures = opened(Rule())
    for timeout_ms in range(20):
        for _ in range(2):
            asked(signatures, replace(GOOD, timeout_ms=timeout_ms))
    assert len(signatures._kept) == len(signatures._met) == 5
    huge = replace(GOOD, tenant="t" * 5000)
    assert [asked(signatures, huge) for _ in range(3)] == [None] * 3
    assert max(sum(map(len, pieces)) for pieces in signatures._met) < 4096

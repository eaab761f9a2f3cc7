"""The rules at the door: each code once, at its limits, and the order in which they are looked at."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from agents.admission import MAX_TENSOR_BYTES, MAX_TEXTS, AdmissionPolicy, Admitted, Refusal, admit
from schemas.memory import MemoryEntry
from schemas.model import ModelVersion, TensorSpec
from schemas.plan import Plan, VersionWeight
from schemas.request import BlobRef, InferenceRequest, Tensor
from schemas.review import ContextSignal
from streams.canonical import to_json
from streams.check_id import TENANT, check_id
from streams.errors import CODES
from streams.memory_view import ActiveVersion
from tests.support.frames import MODEL, memory

POLICY = AdmissionPolicy(default_timeout_ms=30_000, max_timeout_ms=120_000)
PAIR = ModelVersion(
    "pair",
    "v1.0.0",
    "cd" * 32,
    10,
    (TensorSpec("a", "FP32", (2,)), TensorSpec("b", "INT64", (-1, 3))),
    (TensorSpec("y", "FP32", ()),),
    max_batch_size=4,
)
LOOSE = replace(MODEL, model="loose", inputs=(TensorSpec("x", "FP32", (2,), allow_nan=True),))
WORDS = replace(MODEL, model="words", inputs=(TensorSpec("x", "BYTES", (-1,)),))
HALVES = replace(MODEL, model="halves", inputs=(TensorSpec("x", "BF16", (-1, -1)),))
BAN = ContextSignal(
    "no-acme", "constraint", "model/digits", '{"field":"not_allowed_tenant","names":["acme"]}', "rules file", 1
)
PLAIN = memory(MODEL, PAIR, LOOSE, WORDS, HALVES)
RULES = {"context/no-acme": MemoryEntry("context/no-acme", 1, 41, to_json(BAN), 1)}
VIEW = replace(PLAIN, entries=MappingProxyType({**PLAIN.entries, **RULES}))


def tensor(*shape: int, name: str = "x", datatype: str = "FP32", width: int = 4) -> Tensor:
    return Tensor(name, datatype, shape, bytes(int(np.prod(shape)) * width))


GOOD = InferenceRequest("r1", "digits", (tensor(1, 2),))
NO_DATA = Tensor("x", "FP32", (1, 2), b"")
PAIRED = InferenceRequest("r1", "pair", (tensor(2, 5, 3, name="b", datatype="INT64", width=8), tensor(2, 2, name="a")))


def code_of(request: InferenceRequest) -> str:
    verdict = admit(request, VIEW, POLICY)
    return verdict.code if isinstance(verdict, Refusal) else ""


def with_values(*values: float) -> Tensor:
    return Tensor("x", "FP32", (1, 2), np.array(values, "<f4").tobytes())


def texts(data: bytes, *shape: int) -> dict[str, Any]:
    return {"model": "words", "inputs": (Tensor("x", "BYTES", shape, data),)}


def halves(data: bytes, *shape: int) -> dict[str, Any]:
    return {"model": "halves", "inputs": (Tensor("x", "BF16", shape, data),)}


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("invalid_request_id", {"request_id": ""}),
    ("invalid_request_id", {"request_id": "x" * 65}),
    ("invalid_request_id", {"request_id": "\N{GRINNING FACE}" * 64}),
    ("invalid_tenant", {"tenant": ""}),
    ("invalid_tenant", {"tenant": "a b"}),
    ("invalid_tenant", {"tenant": "a" * 65}),
    ("reserved_tenant", {"tenant": "isos-validation"}),
    ("invalid_model_name", {"model": "ab"}),
    ("invalid_model_name", {"model": "a" * 65}),
    ("invalid_model_name", {"model": "digits\n"}),
    ("invalid_version", {"version": "1.0.0"}),
    ("invalid_version", {"version": "v1.0.0-rc"}),
    ("invalid_priority", {"priority": -1}),
    ("invalid_priority", {"priority": 10}),
    ("invalid_timeout", {"timeout_ms": -1}),
    ("invalid_timeout", {"timeout_ms": 120_001}),
    ("invalid_blob", {"blob": BlobRef("ab" * 32, 8)}),
    ("invalid_blob", {"blob": BlobRef("AB" * 32, 8), "inputs": (NO_DATA,)}),
    ("invalid_blob", {"blob": BlobRef("ab" * 32, 9), "inputs": (NO_DATA,)}),
    ("payload_too_large", {"blob": BlobRef("ab" * 32, MAX_TENSOR_BYTES + 1), "inputs": (NO_DATA,)}),
    ("payload_too_large", {"inputs": (Tensor("x", "FP32", (1, 2), bytes(MAX_TENSOR_BYTES + 1)),)}),
    ("unknown_model", {"model": "nobody"}),
    ("not_allowed", {"tenant": "acme"}),
    ("unknown_version", {"version": "v9.9.9"}),
    ("wrong_inputs", {"inputs": ()}),
    ("wrong_inputs", {"inputs": (tensor(1, 2, name="z"),)}),
    ("wrong_inputs", {"inputs": (tensor(1, 2), tensor(1, 2))}),
    ("wrong_inputs", {"inputs": (tensor(1, 2), tensor(1, 2, name="z"))}),
    ("wrong_datatype", {"inputs": (tensor(1, 2, datatype="FP64", width=8),)}),
    ("wrong_shape", {"inputs": (tensor(2),)}),
    ("wrong_shape", {"inputs": (tensor(1, 3),)}),
    ("wrong_shape", {"inputs": (tensor(0, 2),)}),
    ("wrong_shape", {"inputs": (Tensor("x", "FP32", (-1, 2), b""),)}),
    ("wrong_shape", {"inputs": (Tensor("x", "FP32", (1, 2), bytes(9)),)}),
    ("batch_too_large", {"inputs": (tensor(129, 2),)}),
    ("not_finite", {"inputs": (with_values(1.0, float("nan")),)}),
    ("not_finite", {"inputs": (with_values(float("-inf"), 1.0),)}),
    ("not_finite", halves(b"\x80\x3f\x80\x7f", 1, 1, 2)),
    ("wrong_shape", halves(b"\x80\x3f\x80", 1, 1, 2)),
    ("payload_too_large", halves(b"", 1, 0, MAX_TENSOR_BYTES + 1)),
    ("payload_too_large", texts(bytes(4 * MAX_TEXTS + 4), 1, MAX_TEXTS + 1)),
    ("malformed_bytes", texts(b"", 1, 1)),
    ("malformed_bytes", texts(bytes(8), 1, 1)),
    ("malformed_bytes", texts(b"\x02\0\0\0a", 1, 1)),
    ("malformed_bytes", texts(b"\xff\xff\xff\xff", 1, 1)),
    ("malformed_bytes", texts(b"\x01\0\0\0\xff", 1, 1)),
    ("malformed_bytes", texts(bytes(4), 1, 0)),
    ("invalid_blob", {**texts(b"", 1, 2), "blob": BlobRef("ab" * 32, 7)}),
]


@pytest.mark.parametrize(("code", "change"), REFUSED)
def test_refused_with_its_code(code: str, change: dict[str, Any]) -> None:
    assert code_of(replace(GOOD, **change)) == code
    assert CODES[code].status == "REJECTED"


def test_every_code_of_the_door_is_tested() -> None:
    elsewhere = {"quota_exceeded", "duplicate_in_flight", "id_conflict", "overloaded", "memory_silent"}
    assert {code for code, _ in REFUSED} == {
        name for name, code in CODES.items() if code.status == "REJECTED"
    } - elsewhere


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "x"},
        {"request_id": "x" * 64},
        {"request_id": "é" * 64},
        {"tenant": "a.b_C-9"},
        {"priority": 0},
        {"priority": 9},
        {"timeout_ms": 120_000},
        {"version": "v1.0.0"},
        {"inputs": (tensor(128, 2),)},
        halves(b"\x80\x3f\x80\x3f", 1, 1, 2),
        halves(b"", 1, 0, 70_000),
        texts(b"\x02\0\0\0\xc3\xa9\0\0\0\0", 2, 1),
        texts(b"", 3, 0),
        texts(bytes(4 * MAX_TEXTS), 1, MAX_TEXTS),
        {**texts(b"", 1, 2), "blob": BlobRef("ab" * 32, 8)},
        {**texts(b"", 1, 2), "blob": BlobRef("ab" * 32, 80)},
    ],
)
def test_admitted_at_the_limits(change: dict[str, Any]) -> None:
    assert code_of(replace(GOOD, **change)) == ""


def test_the_first_failing_rule_gives_the_code() -> None:
    """Breaking the rules from the last to the first changes the code at each step."""
    request = replace(GOOD, inputs=(with_values(float("nan"), 0.0),))
    seen = [code_of(request)]
    for change in (
        {"inputs": (Tensor("x", "FP32", (129, 2), bytes(8)),)},
        {"inputs": (Tensor("x", "FP32", (129, 2, 1), bytes(8)),)},
        {"inputs": (Tensor("x", "FP64", (129, 2, 1), bytes(8)),)},
        {"inputs": (Tensor("z", "FP64", (129, 2, 1), bytes(8)),)},
        {"version": "v9.9.9"},
        {"model": "nobody"},
        {"inputs": (Tensor("z", "FP64", (129,), bytes(MAX_TENSOR_BYTES + 1)),)},
        {"blob": BlobRef("ab" * 32, 5)},
        {"timeout_ms": -1},
        {"priority": 10},
        {"version": "1"},
        {"model": "?"},
        {"tenant": ""},
        {"request_id": ""},
    ):
        request = replace(request, **change)  # type: ignore[arg-type]
        seen.append(code_of(request))
    assert seen == [
        *("not_finite", "batch_too_large", "wrong_shape", "wrong_datatype", "wrong_inputs", "unknown_version"),
        *("unknown_model", "payload_too_large", "invalid_blob", "invalid_timeout", "invalid_priority"),
        *("invalid_version", "invalid_model_name", "invalid_tenant", "invalid_request_id"),
    ]


def test_tensors_come_out_in_signature_order_without_the_batch_axis() -> None:
    verdict = admit(PAIRED, VIEW, POLICY)
    assert verdict == Admitted(2, 30_000, (("a", "FP32", (2,), bytes(16)), ("b", "INT64", (5, 3), bytes(240))))


def test_a_blob_keeps_the_requests_order_and_is_not_looked_into() -> None:
    bare = tuple(replace(each, data=b"") for each in PAIRED.inputs)
    ref = BlobRef("ab" * 32, 256)
    verdict = admit(replace(PAIRED, inputs=bare, blob=ref), VIEW, POLICY)
    assert verdict == Admitted(2, 30_000, (("b", "INT64", (5, 3), b""), ("a", "FP32", (2,), b"")), ref)


def test_inputs_must_agree_on_the_batch() -> None:
    assert code_of(replace(PAIRED, inputs=(PAIRED.inputs[0], tensor(3, 2, name="a")))) == "wrong_shape"


def test_the_models_own_batch_limit() -> None:
    five = (tensor(5, 1, 3, name="b", datatype="INT64", width=8), tensor(5, 2, name="a"))
    assert code_of(replace(PAIRED, inputs=five)) == "batch_too_large"


def test_nan_where_the_manifest_allows_it() -> None:
    assert code_of(replace(GOOD, model="loose", inputs=(with_values(float("nan"), 0.0),))) == ""


def test_the_given_timeout_wins_over_the_default() -> None:
    verdict = admit(replace(GOOD, timeout_ms=50), VIEW, POLICY)
    assert isinstance(verdict, Admitted)
    assert verdict.timeout_ms == 50


@pytest.mark.parametrize(
    ("planned_ms", "given_ms", "budget_ms"), [(4_000, 0, 4_000), (4_000, 50, 50), (9_000_000, 0, 120_000)]
)
def test_a_request_without_a_budget_has_its_plans(planned_ms: int, given_ms: int, budget_ms: int) -> None:
    view = memory(MODEL, Plan("digits", (VersionWeight("v1.0.0", 100),), 8, planned_ms))
    verdict = admit(replace(GOOD, timeout_ms=given_ms), view, POLICY)
    assert isinstance(verdict, Admitted)
    assert verdict.timeout_ms == budget_ms


def test_an_unpinned_request_must_fit_the_active_version() -> None:
    newer = replace(MODEL, version="v2.0.0", inputs=(TensorSpec("x", "FP32", (3,)),))
    wide = replace(GOOD, inputs=(tensor(1, 3),))
    for view, admitted in (
        (memory(MODEL, newer), False),
        (memory(MODEL, newer, ActiveVersion("digits", "v2.0.0")), True),
    ):
        assert isinstance(admit(wide, view, POLICY), Admitted) is admitted


def test_the_checks_tenant_is_for_whoever_has_the_key() -> None:
    policy = replace(POLICY, check_key=b"k" * 32)
    request_id = check_id(policy.check_key, "0" * 16, GOOD.model, "v1.0.0", GOOD.inputs)
    check = replace(GOOD, request_id=request_id, tenant=TENANT, version="v1.0.0")
    assert isinstance(admit(check, VIEW, policy), Admitted)
    for forged in (
        replace(check, request_id="r1"),
        replace(check, inputs=(with_values(1, 2),)),
        replace(check, version=None),
    ):
        refusal = admit(forged, VIEW, policy)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "reserved_tenant"
    assert code_of(check) == "reserved_tenant"
    assert "k" * 32 not in repr(policy)

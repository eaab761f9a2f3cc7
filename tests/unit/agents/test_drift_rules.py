"""What the Orchestrator allows of references."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.drift_rules import remove_reference, set_reference
from agents.orchestrator import COMMANDS
from agents.verdict import Change, Refusal, State, Value
from executors.reference import make_reference
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import MAX_MEASURES, Reference
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError
from tests.support import drift

KEY = "reference/digits/v1.0.0"
REFERENCE = drift.reference(200)
STATE = State(3, {"model/digits/v1.0.0": Value(1, to_json(drift.FACTS))})


def command(body: Any, key: str = KEY, kind: str = "SetReference") -> MemoryCommand:
    return MemoryCommand("c1", "cli", kind, key, -1, body if isinstance(body, str) else to_json(body), "", (), 5)


def test_a_reference_of_a_registered_version_stands() -> None:
    assert set_reference(STATE, command(REFERENCE)) == (Change("ReferenceSet", KEY, to_json(REFERENCE)),)
    assert COMMANDS["SetReference"] == (frozenset({"cli", "operator"}), set_reference)
    assert COMMANDS["RemoveReference"] == (frozenset({"cli", "operator"}), remove_reference)


def with_measure(**fields: Any) -> Reference:
    first, *rest = REFERENCE.tensors[0].measures
    tensor = replace(REFERENCE.tensors[0], measures=(replace(first, **fields), *rest))
    return replace(REFERENCE, tensors=(tensor, *REFERENCE.tensors[1:]))


def with_tensor(**fields: Any) -> Reference:
    return replace(REFERENCE, tensors=(replace(REFERENCE.tensors[0], **fields), *REFERENCE.tensors[1:]))


COUNTS = REFERENCE.measures[0].counts


@pytest.mark.parametrize(
    ("reference", "code", "said"),
    [
        (replace(REFERENCE, version="v9.0.0"), "unknown_version", "has no version v9.0.0"),
        (replace(REFERENCE, num_rows=49), "invalid_reference", "49 rows are too few"),
        (replace(REFERENCE, num_rows=201), "invalid_reference", r"x\[0\] does not have 201 rows"),
        (replace(REFERENCE, tensors=()), "invalid_reference", "it has 0 measures"),
        (replace(REFERENCE, tensors=REFERENCE.tensors * 20), "invalid_reference", f"1 to {MAX_MEASURES} may be"),
        (replace(REFERENCE, source="x" * 70_000), "too_large", "at most 65536 bytes"),
        (with_tensor(name="z"), "invalid_reference", "no tensor z of 8 elements"),
        (with_tensor(is_output=True), "invalid_reference", "no tensor x of 8 elements"),
        (with_tensor(size=9), "invalid_reference", "no tensor x of 9 elements"),
        (with_tensor(stride=0), "invalid_reference", "the stride of x is 0"),
        (with_measure(element=8), "invalid_reference", "is of element 8"),
        (with_measure(element=-1), "invalid_reference", "is of element -1"),
        (with_measure(edges=(1.0, 0.5), counts=(0, 0, 200)), "invalid_reference", "do not fit"),
        (with_measure(counts=COUNTS[1:]), "invalid_reference", "do not fit"),
        (with_measure(counts=(-1, COUNTS[0] + COUNTS[1] + 1, *COUNTS[2:])), "invalid_reference", "do not fit"),
        (with_measure(deviation=-1.0), "invalid_reference", "do not fit"),
        (with_measure(edges=(), counts=()), "invalid_reference", "do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(reference: Reference, code: str, said: str) -> None:
    key = f"reference/{reference.model}/{reference.version}"
    verdict = set_reference(STATE, command(reference, key))
    assert isinstance(verdict, Refusal)
    assert verdict.code == code
    assert re.search(said, verdict.message)


SPECS = (TensorSpec("t", "BYTES", (-1, 2)), TensorSpec("x", "BF16", (4,)))
OF_TEXTS = ModelVersion("texts", "v1.0.0", "ab" * 32, 1, SPECS, ())
ROWS = {"t": np.full((60, 3, 2), "a", object), "x": np.ones((60, 4), np.uint16)}
TEXTS = make_reference(OF_TEXTS, [(ROWS, {})], "")


def texts_with(at: int, **fields: Any) -> Reference:
    """The reference of texts (0) and halves (1) with something else in one tensor."""
    tensors = list(TEXTS.tensors)
    measure = fields.pop("measure", None)
    if measure is not None:
        first, *rest = tensors[at].measures
        fields["measures"] = (replace(first, **measure), *rest)
    tensors[at] = replace(tensors[at], **fields)
    return replace(TEXTS, tensors=tuple(tensors))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (TEXTS, ""),
        (texts_with(0, free=()), "no tensor t of 0 elements"),
        (texts_with(0, free=(1,)), r"no tensor t of the free axes \[1\]"),
        (texts_with(0, size=2), "no tensor t of the free axes"),
        (texts_with(0, places=0), "0 places are looked at"),
        (texts_with(0, places=257), "257 places are looked at"),
        (texts_with(0, datatype=""), "t is BYTES, not of numbers"),
        (texts_with(0, datatype="FP32"), "t is BYTES, not FP32"),
        (texts_with(1, datatype=""), "x is BF16, not of numbers"),
        (texts_with(0, measure={"kind": "element"}), "is no measure of BYTES"),
        (texts_with(1, measure={"kind": "bucket"}), "is no measure of BF16"),
        (texts_with(0, measure={"element": 16}), "is of element 16"),
        (texts_with(0, measure={"kind": "axis", "element": 1}), "is of element 1"),
        (texts_with(1, measure={"kind": "axis"}), "is of element 0"),
    ],
)
def test_of_texts_halves_and_free_axes_only_what_is_there_is_measured(reference: Reference, said: str) -> None:
    state = State(3, {"model/texts/v1.0.0": Value(1, to_json(OF_TEXTS))})
    verdict = set_reference(state, command(reference, "reference/texts/v1.0.0"))
    if said:
        assert isinstance(verdict, Refusal)
        assert (verdict.code, bool(re.search(said, verdict.message))) == ("invalid_reference", True), verdict.message
    else:
        assert verdict == (Change("ReferenceSet", "reference/texts/v1.0.0", to_json(reference)),)


def test_a_reference_of_the_release_before_still_stands() -> None:
    """It says nothing of datatypes, for there were only numbers."""
    body = to_json(REFERENCE)
    for tensor in REFERENCE.tensors:
        body = body.replace(f'"datatype":"{tensor.datatype}",', "", 1).replace('"free":[],', "", 1)
        body = body.replace('"places":0,', "", 1)
    found = from_json(Reference, body)
    assert found == replace(REFERENCE, tensors=tuple(replace(each, datatype="") for each in REFERENCE.tensors))
    assert set_reference(STATE, command(found)) == (Change("ReferenceSet", KEY, to_json(found)),)


def test_infinite_numbers_are_refused() -> None:
    body = to_json(with_measure(mean=0.125)).replace('"mean":0.125', '"mean":1e999', 1)
    with pytest.raises(PoisonRecordError, match="not a finite number"):
        set_reference(STATE, command(body))


def test_a_reference_under_another_key_is_refused() -> None:
    verdict = set_reference(STATE, command(REFERENCE, "reference/digits/v2.0.0"))
    assert isinstance(verdict, Refusal)
    assert verdict.code == "invalid_body"


def test_removing_takes_the_key_away_once() -> None:
    standing = replace(STATE, values={**STATE.values, KEY: Value(1, to_json(REFERENCE))})
    assert remove_reference(standing, command("", kind="RemoveReference")) == (Change("ReferenceRemoved", KEY, None),)
    assert remove_reference(STATE, command("", kind="RemoveReference")) == ()
    assert isinstance(remove_reference(standing, command("", "active/digits")), Refusal)

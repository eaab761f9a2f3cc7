"""Canonical JSON: one form per value, exact way back, refusal of what does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.model import ModelVersion, TensorSpec
from schemas.plan import Plan
from streams.canonical import digest, from_json, to_json
from streams.errors import PoisonRecordError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
specs = st.builds(TensorSpec, texts, texts, st.lists(st.integers(-1, 512), max_size=3).map(tuple), st.booleans())
model_versions = st.builds(
    ModelVersion,
    texts,
    texts,
    texts,
    st.integers(0, 2**62),
    st.lists(specs, max_size=2).map(tuple),
    st.lists(specs, max_size=2).map(tuple),
)


@dataclass(frozen=True, slots=True)
class Everything:
    """One field of each kind that is understood."""

    raw: bytes
    maybe: int | None
    pair: tuple[int, str]
    ratio: float
    by_name: Mapping[str, TensorSpec] = field(default_factory=dict)


@given(model_versions)
def test_round_trip(version: ModelVersion) -> None:
    assert from_json(ModelVersion, to_json(version)) == version


everythings = st.builds(
    Everything,
    st.binary(max_size=8),
    st.none() | st.integers(),
    st.tuples(st.integers(), texts),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(texts, specs, max_size=3),
)


@given(everythings)
def test_round_trip_of_every_kind(value: Everything) -> None:
    text = to_json(value)
    assert from_json(Everything, text) == value
    assert to_json(from_json(Everything, text)) == text


def test_form_is_sorted_and_dense() -> None:
    value = Everything(
        b"\x00\xff", None, (1, "ü"), 0.5, {"b": TensorSpec("x", "FP32", (-1,)), "a": TensorSpec("y", "U8", ())}
    )
    assert to_json(value) == (
        '{"by_name":{"a":{"allow_nan":false,"datatype":"U8","item_shape":[],"name":"y"},'
        '"b":{"allow_nan":false,"datatype":"FP32","item_shape":[-1],"name":"x"}},'
        '"maybe":null,"pair":[1,"ü"],"ratio":0.5,"raw":"00ff"}'
    )
    assert digest(value) == hashlib.sha256(to_json(value).encode()).digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nul",
        '{"model":1,"versions":[],"max_batch_size":1,"timeout_ms":1}',
        '{"model":"m","versions":[],"max_batch_size":true,"timeout_ms":1}',
        '{"model":"m","versions":[]}',
        '{"model":"m","versions":[],"max_batch_size":1,"timeout_ms":1,"more":0}',
        '{"model":"m","versions":{},"max_batch_size":1,"timeout_ms":1}',
        "[" * 100_000,
    ],
)
def test_what_does_not_fit_is_poison(text: str) -> None:
    with pytest.raises(PoisonRecordError, match="not a Plan"):
        from_json(Plan, text)


def plain_with(more: Any, plain: Any) -> Any:
    """The same with another field in each object."""
    if isinstance(plain, dict):
        return {**{name: plain_with(more, value) for name, value in plain.items()}, "field-of-later": more}
    return [plain_with(more, value) for value in plain] if isinstance(plain, list) else plain


@given(model_versions, st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=2))
def test_what_a_later_release_adds_is_left_out_where_it_may_have_written(version: ModelVersion, more: Any) -> None:
    text = json.dumps(plain_with(more, json.loads(to_json(version))))
    assert from_json(ModelVersion, text, newer=True) == version
    with pytest.raises(PoisonRecordError, match="unknown fields"):
        from_json(ModelVersion, text)


def test_what_a_later_release_means_otherwise_is_poison_for_all() -> None:
    with pytest.raises(PoisonRecordError, match="not a Plan"):
        from_json(Plan, '{"model":1,"versions":[],"max_batch_size":1,"timeout_ms":1,"more":0}', newer=True)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + 400 * "0"])
def test_numbers_that_could_not_be_written_are_not_read(number: str) -> None:
    text = to_json(Everything(b"", None, (0, ""), 0.5))
    assert "0.5" in text
    with pytest.raises(PoisonRecordError):
        from_json(Everything, text.replace("0.5", number))


def test_nan_and_foreign_types_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Everything(b"", None, (0, ""), float("nan")))
    with pytest.raises(TypeError):
        to_json({1: 2})
    with pytest.raises(TypeError):
        to_json({1, 2})


@pytest.mark.parametrize("text", ['{"names":["\\ud800"]}', '{"names":["a"],"more":{"\\udfff":1}}'])
def test_half_a_surrogate_pair_is_poison_for_no_record_could_hold_it(text: str) -> None:
    assert from_json(Texts, '{"names":["\\ud83d\\ude00"],"more":{}}') == Texts(("\U0001f600",), {})
    with pytest.raises(PoisonRecordError) as raised:
        from_json(Texts, text)
    str(raised.value).encode()


@dataclass(frozen=True)
class Texts:
    names: tuple[str, ...]
    more: Mapping[str, int] = field(default_factory=dict)

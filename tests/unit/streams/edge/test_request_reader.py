"""Rows of records: what is admitted, refused, unreadable, and learned of on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.admission import AdmissionPolicy, Refusal, admit
from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.codec import Codec, SchemaIds
from streams.columns import ERROR, PENDING, REJECTED
from streams.edge.request_reader import RequestReader
from streams.letters.letter import Letter
from tests.support.fake_kafka import record
from tests.support.frames import MODEL, memory

CODEC = Codec(SchemaIds.local())
VIEW = memory(MODEL)
GOOD = InferenceRequest("r1", "digits", (Tensor("x", "FP32", (1, 2), bytes(8)),))


def rule(request: InferenceRequest) -> Any:
    return admit(request, VIEW, AdmissionPolicy())


def value_of(**fields: Any) -> bytes:
    return CODEC.encode("inference.requests", replace(GOOD, **fields))


async def test_a_row_that_passed() -> None:
    letters: list[Letter] = []
    row, passed = await RequestReader(CODEC, rule).row(record(value_of(timeout_ms=5), 3, time_ms=7), 2, letters)
    assert (passed, row.status, row.offset, row.gap, row.deadline_us) == (True, PENDING, 3, 2, 12_000)
    assert (row.items, row.blocks, row.blob) == (1, (("x", "FP32", (2,), bytes(8)),), None)
    assert letters == []


async def test_a_row_with_a_blob() -> None:
    value = value_of(inputs=(Tensor("x", "FP32", (1, 2), b""),), blob=BlobRef("ab" * 32, 8))
    row, passed = await RequestReader(CODEC, rule).row(record(value, 3), 0, [])
    assert (passed, row.blob, row.blocks) == (True, BlobRef("ab" * 32, 8), (("x", "FP32", (2,), b""),))


async def test_a_refused_row_has_no_letter() -> None:
    letters: list[Letter] = []
    row, passed = await RequestReader(CODEC, rule).row(record(value_of(model="nobody"), 3), 0, letters)
    assert (passed, row.status, row.error and row.error.code, letters) == (False, REJECTED, "unknown_model", [])


@pytest.mark.parametrize(
    ("value", "code"), [(b"?", "garbage"), (None, "null_value"), (b"\0\x7f\0\0\0", "unknown_schema")]
)
async def test_an_unreadable_record_has_a_letter_and_an_id(value: bytes | None, code: str) -> None:
    letters: list[Letter] = []
    row, passed = await RequestReader(CODEC, rule).row(record(value, 3, key=b"mine"), 0, letters)
    assert (passed, row.status, row.error and row.error.code, row.request_id) == (False, ERROR, code, b"mine")
    assert [(each.code, each.value, each.key) for each in letters] == [(code, value, b"mine")]


async def test_a_schema_that_was_just_registered_is_learned() -> None:
    """The codec knows nothing; the watch is asked once, and the codec then knows everything."""
    codec = Codec(SchemaIds({}, {}))

    class Watch:
        def __init__(self) -> None:
            self.asked: list[int] = []

        async def learn(self, schema_id: int) -> bool:
            self.asked.append(schema_id)
            codec.refresh(CODEC.ids)
            return True

    watch: Any = Watch()
    row, passed = await RequestReader(codec, rule, watch).row(record(value_of(), 3), 0, [])
    assert (passed, row.request_id, len(watch.asked)) == (True, b"r1", 1)


def test_the_digest_of_a_record_is_that_of_its_input() -> None:
    digest = RequestReader(CODEC, rule).digest
    wanted = digest(record(value_of(), 1))
    assert wanted is not None
    assert digest(record(value_of(request_id="r2", timeout_ms=7, priority=1), 2)) == wanted
    assert digest(record(value_of(version="v1.0.0"), 1)) != wanted
    assert digest(record(b"?", 1)) is None
    assert digest(record(value_of(model="nobody"), 1)) is None


def test_verdicts_are_told_apart_by_their_code() -> None:
    assert hasattr(Refusal("a", "b"), "code")
    assert not hasattr(admit(GOOD, VIEW, AdmissionPolicy()), "code")

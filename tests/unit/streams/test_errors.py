"""The error family and the closed list of codes."""

from __future__ import annotations

import re

from streams.errors import CODES, FencedError, InvariantError, IsosError, PoisonRecordError, RetriableError


def test_the_family_divides_by_what_the_caller_does() -> None:
    assert issubclass(FencedError, RetriableError)
    for family in (RetriableError, PoisonRecordError, InvariantError):
        assert issubclass(family, IsosError)
    assert not issubclass(PoisonRecordError, RetriableError)


def test_sentences_are_made_of_fields() -> None:
    assert str(PoisonRecordError("garbage", "too short")) == "garbage: too short"
    assert str(FencedError("t", 3)) == "the write to t-3 was refused: another writer has taken it over"


def test_every_code_is_complete() -> None:
    for name, code in CODES.items():
        assert re.fullmatch(r"[a-z][a-z_]+", name)
        assert code.name == name
        assert code.status in ("ERROR", "REJECTED", "EXPIRED")
        assert code.meaning.endswith(".")
        assert code.remedy


def test_the_names_of_the_contract_never_go() -> None:
    published = {
        *("garbage", "null_value", "unknown_schema", "unknown_model", "batch_too_large", "payload_too_large"),
        *("wrong_datatype", "wrong_shape", "not_finite", "deadline_exceeded", "no_plan", "lost", "internal"),
    }
    assert published <= set(CODES)

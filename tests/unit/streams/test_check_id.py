"""Ids of checks' requests: made with a key, known by it, and good for exactly one request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.check_id import TENANT, check_id, is_check

KEY, NONCE = b"k" * 32, "0123456789abcdef"
X, Y = Tensor("x", "FP32", (1, 2), b"12345678"), Tensor("y", "UINT8", (1,), b"9")
REQUEST = InferenceRequest(
    check_id(KEY, NONCE, "digits", "v1.0.0", (X, Y)), "digits", (X, Y), tenant=TENANT, version="v1.0.0"
)


def test_an_id_fits_a_request_and_is_known_by_the_key_it_was_made_with() -> None:
    assert len(REQUEST.request_id) == 55
    assert is_check(KEY, REQUEST)
    assert is_check(KEY, replace(REQUEST, inputs=(Y, X), priority=9, timeout_ms=5))
    assert not is_check(b"l" * 32, REQUEST)
    assert not is_check(b"", REQUEST)


def test_with_an_empty_key_nobody_is_known() -> None:
    made = check_id(b"", NONCE, "digits", "v1.0.0", (X,))
    assert not is_check(b"", replace(REQUEST, request_id=made, inputs=(X,)))


@pytest.mark.parametrize(
    "change",
    [
        {"model": "digitx"},
        {"version": "v1.0.1"},
        {"version": None},
        {"inputs": (X,)},
        {"inputs": (X, replace(Y, data=b"8"))},
        {"inputs": (X, replace(Y, datatype="INT8"))},
        {"inputs": (X, replace(Y, name="z"))},
        {"inputs": (replace(X, shape=(2, 1)), Y)},
        {"blob": BlobRef("ab" * 32, 9)},
        {"request_id": ""},
        {"request_id": "r1"},
        {"request_id": REQUEST.request_id.replace("check", "chick")},
        {"request_id": REQUEST.request_id.replace(NONCE, "0" * 16)},
        {"request_id": REQUEST.request_id[:-1]},
        {"request_id": f"{REQUEST.request_id[:-1]}\N{GRINNING FACE}"},
    ],
)
def test_whatever_is_changed_makes_it_another_request(change: dict[str, Any]) -> None:
    assert not is_check(KEY, replace(REQUEST, **change))


def test_parts_cannot_be_moved_into_each_other() -> None:
    one = check_id(KEY, NONCE, "ab", "c", ())
    assert one != check_id(KEY, NONCE, "a", "bc", ())
    assert check_id(KEY, NONCE, "a", "", (Tensor("x", "BYTES", (1,), b"ab"), Tensor("y", "BYTES", (1,), b"c"))) != (
        check_id(KEY, NONCE, "a", "", (Tensor("x", "BYTES", (1,), b"a"), Tensor("y", "BYTES", (1,), b"bc")))
    )

"""Cached answers as bytes: what was put under a secret comes back, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.model import ModelVersion, TensorSpec
from streams.cache.keys import NO_DIGEST
from streams.cache.values import MAX_VALUE_BYTES, Made, Seal, is_whole, payloads, segment_of, widths_of
from streams.columns import ERROR, OK, block_array
from tests.support.cached import FIELD, MADE, SCOPE, digests_of, entry, executed, filled
from tests.support.frames import MODEL, T, frame, row, with_blob

SEAL = Seal(b"a secret of a stack, 32 bytes ..")


def test_a_filled_answer_comes_back() -> None:
    routed = frame([row(3), row(5, items=2), row(4, model="letters")])
    wanted = filled(executed(routed), digests_of(routed))
    entries = [SEAL.open(field, SEAL.close(field, payload)) for field, payload in wanted]
    assert entries == [entry(3.0), entry(5.0, items=2), entry(4.0)]
    assert [field[:16] for field, _ in wanted] == [SCOPE] * 3


@given(st.data())
def test_no_altered_value_is_taken(data: st.DataObject) -> None:
    ((field, payload),) = filled(executed(frame([row(3)])), digests_of(frame([row(3)])))
    value = bytearray(SEAL.close(field, payload))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    assert SEAL.open(field, bytes(value)) is None
    assert SEAL.open(field, bytes(value[:at])) is None


def test_a_value_is_good_for_its_own_key_and_secret_only() -> None:
    ((field, payload),) = filled(executed(frame([row(3)])), digests_of(frame([row(3)])))
    value = SEAL.close(field, payload)
    assert SEAL.open(field, value) == entry(3.0)
    assert SEAL.open(FIELD, value) is None
    other = Seal(b"another secret, 32 bytes .......")
    assert other.open(field, value) is None
    assert other.fingerprint != SEAL.fingerprint
    assert b"a secret" not in repr(SEAL).encode()


def test_a_secret_has_a_length() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Seal(b"short")


@pytest.mark.parametrize(
    "payload", [b"", b"\x01", b"\x02" + bytes(60), b"\x01" + bytes(14), b"\x01" + bytes(10) + b"\x02\0\0\0[]"]
)
def test_a_payload_that_another_release_wrote_is_none(payload: bytes) -> None:
    assert SEAL.open(FIELD, SEAL.close(FIELD, payload)) is None


def test_only_ok_rows_with_a_digest_are_filled() -> None:
    routed = frame([row(1), row(2), row(3)])
    digests = digests_of(routed)
    some = digests[:16] + NO_DIGEST + digests[32:]
    ran = replace(executed(routed), statuses=bytes([OK, OK, ERROR]))
    assert [field for field, _ in filled(ran, some)] == [SCOPE + digests[:16]]
    assert filled(ran, NO_DIGEST * 3) == []


def test_an_answer_from_the_cache_is_not_filled_again() -> None:
    routed = frame([row(1)])
    ran = executed(routed)
    cached = replace(ran, segments=tuple(replace(segment, cached=True) for segment in ran.segments))
    assert filled(cached, digests_of(routed)) == []


def test_the_scope_is_asked_for_what_ran() -> None:
    routed = replace(frame([row(1), row(2, model="letters")]), memory_sequence=9)
    asked = []

    def scope(*what: object) -> bytes | None:
        asked.append(what)
        return None

    assert list(payloads(executed(routed), digests_of(routed), scope, T)) == []
    assert asked == [("digits", "v1.0.0", MODEL.digest, 9), ("letters", "v1.0.0", MODEL.digest, 9)]


def test_a_large_answer_is_not_cached() -> None:
    routed = frame([row(1, items=2), row(2)])
    ran = executed(routed)
    large = replace(
        ran.segments[0].outputs[0], item_shape=(MAX_VALUE_BYTES // 8,), data=bytes(3 * MAX_VALUE_BYTES // 2)
    )
    ran = replace(ran, segments=(replace(ran.segments[0], outputs=(large,)),))
    assert [field[16:] for field, _ in filled(ran, digests_of(routed))] == [digests_of(routed)[16:]]


def test_a_blob_row_is_filled_like_any_other() -> None:
    routed = frame([with_blob(row(1))])
    inline = executed(frame([row(1)]))
    assert len(filled(inline, digests_of(routed))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        replace(MADE, model_digest="cd" * 32),
        replace(MADE, outputs=(("z", "FP32", (3,)),)),
        replace(MADE, outputs=(("y", "INT32", (3,)),)),
        replace(MADE, outputs=(("y", "FP32", (1,)),)),
        replace(MADE, outputs=(("y", "FP32", (3, 1)),)),
        replace(MADE, outputs=()),
    ],
)
def test_answers_of_another_signature_do_not_fit(wrong: Made) -> None:
    assert widths_of(MADE, MODEL) == (12,)
    assert widths_of(wrong, MODEL) is None


def test_free_axes_take_any_length() -> None:
    free: ModelVersion = replace(MODEL, outputs=(TensorSpec("y", "FP32", (-1,)),))
    assert widths_of(MADE, free) == (12,)
    texts = replace(MODEL, outputs=(TensorSpec("y", "BYTES", (-1,)),))
    assert widths_of(replace(MADE, outputs=(("y", "BYTES", (2,)),)), texts) == (-1,)


def test_every_item_has_its_bytes() -> None:
    assert is_whole(entry(items=2), (12,))
    assert not is_whole(replace(entry(items=2), items=1), (12,))
    assert not is_whole(replace(entry(), data=(bytes(8),)), (12,))
    assert is_whole(replace(entry(), data=(bytes(8),)), (-1,))


def test_the_segment_of_several_answers() -> None:
    segment = segment_of("digits", "v1.0.0", [entry(1.0), entry(2.0, items=2)])
    assert (segment.num_rows, segment.cached, segment.batch_id, segment.executor) == (2, True, 0, "executor-0")
    assert np.array_equal(block_array(segment.outputs[0])[:, 0], [1.0, 2.0, 2.0])

"""What the ledger's log makes of records without a broker: ids, reaped rows, and nothing without a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.ledger import LedgerCheckpoint
from schemas.request import InferenceRequest
from streams.codec import Codec, SchemaIds
from streams.columns import Columns, request_ids
from streams.connection import Connection
from streams.errors import RetriableError
from streams.ledger_log import LedgerLog, fallback_id, identity_of
from tests.support.fake_kafka import record
from tests.support.frames import TOPIC_ID, T

CODEC = Codec(SchemaIds.local())
WIDE = "\N{GRINNING FACE}" * 64  # 64 characters, 256 bytes


def ledger() -> LedgerLog:
    return LedgerLog(Connection("127.0.0.1:1"), CODEC, TOPIC_ID, 1)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"my-key", b"my-key"),
        ("é".encode() * 64, "é".encode() * 64),
        (b"x" * 65, b"3-77"),
        (WIDE.encode(), b"3-77"),
        (b"\xff\xfe", b"3-77"),
        (b"", b"3-77"),
        (None, b"3-77"),
    ],
)
def test_the_id_of_a_record_that_names_none(key: bytes | None, expected: bytes) -> None:
    assert fallback_id(key, 3, 77) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [("r", b"r"), ("", b"?"), ("x" * 65, b"?"), (WIDE, b"?"), ("é", b"\xc3\xa9")]
)
def test_an_id_is_taken_whole_or_not_at_all(given: str, expected: bytes) -> None:
    assert identity_of(given, b"?") == expected


def test_reaped_rows_keep_the_identity_of_their_request() -> None:
    request = InferenceRequest("r1", "digits", (), tenant="acme")
    values = [
        CODEC.encode("inference.requests", request),
        CODEC.encode("inference.requests", replace(request, request_id="é" * 200, model="m" * 99, tenant="t" * 99)),
        b"garbage",
        None,
    ]
    log = ledger()
    rows = [log._row(record(value, 5 + at, partition=1, key=b"k", time_ms=9)) for at, value in enumerate(values)]
    scanned = log._scanned(3, 20, rows)
    assert (scanned.first, scanned.end, scanned.offsets.tolist()) == (3, 20, [5, 6, 7, 8])
    assert scanned.frame is not None
    assert request_ids(scanned.frame) == [b"r1", b"k", b"k", b"k"]
    assert all(part.decode() for part in request_ids(scanned.frame))  # each is whole UTF-8
    assert [segment.model for segment in scanned.frame.segments] == ["digits", "m" * 64, "", ""]
    assert scanned.frame.tenants == ("acme", "t" * 64, "default")
    assert set(Columns.of(scanned.frame).received_us.tolist()) == {9000}
    assert log._scanned(3, 20, []).frame is None


async def test_nothing_is_written_without_a_claim() -> None:
    log = ledger()
    with pytest.raises(RetriableError, match="not claimed"):
        _ = log.results
    with pytest.raises(RetriableError, match="not claimed"):
        await log.write_checkpoint(LedgerCheckpoint(TOPIC_ID, 1, 0, b"", 0, 0, T))
    await log.close()

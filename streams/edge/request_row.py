"""From a request record to a row of a frame: identity, end, and what it says of its input. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Any, Final

from schemas.frame import RowError
from schemas.request import InferenceRequest
from streams.columns import ERROR, REJECTED
from streams.errors import CODES
from streams.frame_builder import Row
from streams.ledger_log import fallback_id, identity_of

MAX_MESSAGE: Final = 500  # characters; 5,000 refused rows of one tick must fit one frame
DIGEST_BYTES: Final = 16


def blank_row(record: Any, gap: int) -> Row:
    """A row that knows only where its record stands, and has no id yet; priority 5."""
    return Row(record.offset, gap, record.timestamp * 1000, 0, 5, b"", "default", b"", "", "", 0, ())


def describe(row: Row, request: InferenceRequest, record: Any) -> None:
    """Copy the identity of a request into its row, cut to what a result may hold."""
    row.request_id = identity_of(request.request_id, b"") or fallback_id(record.key, record.partition, record.offset)
    row.tenant = request.tenant[:64]
    row.model = request.model[:64]
    row.version = (request.version or "")[:64]
    row.priority = min(max(request.priority, 0), 9)
    row.routing_key = (request.routing_key or "").encode()[:256]


def end(row: Row, code: str, message: str, retry_after_ms: int = 0) -> None:
    """End a row at the door with a code of the closed list; its tensors are dropped."""
    row.status = REJECTED if CODES[code].status == "REJECTED" else ERROR
    row.error = RowError(0, code, message[:MAX_MESSAGE], retry_after_ms)
    row.items, row.blocks, row.blob = 0, (), None


def row_bytes(row: Row) -> int:
    """Bytes of a row's tensors that stand in the row itself."""
    return sum([len(block[3]) for block in row.blocks])


def input_data(row: Row) -> bytes:
    """The row's tensor data in the order of its blocks, which is the content of its blob."""
    return row.blocks[0][3] if len(row.blocks) == 1 else b"".join([block[3] for block in row.blocks])


def input_digest(row: Row) -> bytes:
    """16 bytes by which two rows have the same input: model, version, tensors. A blob counts as its data would.

    The data goes in as its SHA-256, which is a blob's name, so that a request may be repeated either way.
    """
    content = sha256(input_data(row)).digest() if row.blob is None else bytes.fromhex(row.blob.digest)
    head = digest_head(row.model, row.version, row.items, tuple([block[:3] for block in row.blocks]))
    return blake2b(head + content, digest_size=DIGEST_BYTES).digest()


@lru_cache(maxsize=1024)
def digest_head(model: str, version: str, items: int, tensors: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """What a digest holds beside the data; the same for nearly all requests of a client."""
    return repr((model, version, items, tensors)).encode()

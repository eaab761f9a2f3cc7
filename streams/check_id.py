"""Ids of the requests by which the stack checks its own versions: what lets them be told from clients' requests. Pure.

Such requests come as tenant ``TENANT``, which the edge refuses to everybody else: an id is a nonce and a tag of 16
bytes (HMAC-SHA-256, truncated) over it, the model, the pinned version and all tensors, under a key that edges and the
control process share. So nobody can pass traffic of their own off as a check, and a request that was copied from the
log asks for the same rows of the same version again, and for nothing else.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from schemas.request import InferenceRequest, Tensor

TENANT: Final = "isos-validation"
_PREFIX: Final = "check"
_TAG_DIGITS: Final = 32


def check_id(key: bytes, nonce: str, model: str, version: str, inputs: Iterable[Tensor]) -> str:
    """The request id of a check's request; ``nonce``: 16 hex digits that no other request has."""
    tag = hmac.new(key, digestmod=sha256)
    for text in (nonce, model, version):
        _add(tag, text.encode())
    for tensor in sorted(inputs, key=lambda each: each.name):
        _add(tag, repr((tensor.name, tensor.datatype, list(tensor.shape))).encode())
        _add(tag, tensor.data)
    return f"{_PREFIX}-{nonce}-{tag.hexdigest()[:_TAG_DIGITS]}"


def is_check(key: bytes, request: InferenceRequest) -> bool:
    """Whether a request is one of a check that was made with ``key``; with an empty key none is."""
    parts = request.request_id.split("-")
    if not key or request.blob is not None or len(parts) != 3 or parts[0] != _PREFIX:
        return False
    wanted = check_id(key, parts[1], request.model, request.version or "", request.inputs)
    return hmac.compare_digest(wanted.encode(), request.request_id.encode())


def _add(tag: hmac.HMAC, data: bytes) -> None:
    """Each part behind its length, so that no two lists of parts are the same bytes."""
    tag.update(len(data).to_bytes(8, "little"))
    tag.update(data)

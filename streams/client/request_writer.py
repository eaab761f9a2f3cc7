"""Requests to bytes by splicing: names, shapes and options are encoded once, a request adds its id and its data.

Byte for byte what the codec writes for the same ``InferenceRequest``; the unit test holds the two equal. An array's
memory goes into the value without a copy in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from schemas.request import BlobRef, InferenceRequest
from streams.tensors import Array, wire_form
from streams.varint import write_long, write_string

_NONE: Final = b"\x00"
_SOME: Final = b"\x02"
_END: Final = b"\x00"
_INT32: Final = 1 << 31
_KEPT: Final = 1024


@lru_cache(_KEPT)
def _head(model: str, num_inputs: int) -> bytes:
    return write_string(model) + (write_long(num_inputs) if num_inputs else b"")


@lru_cache(_KEPT)
def _tensor_head(name: str, datatype: str, shape: tuple[int, ...], num_bytes: int) -> bytes:
    axes = b"".join((write_long(len(shape)), *(write_long(int(length)) for length in shape))) if shape else b""
    return write_string(name) + write_string(datatype) + axes + _END + write_long(num_bytes)


@lru_cache(_KEPT)
def _options(tenant: str, version: str | None, priority: int, timeout_ms: int) -> bytes:
    for name, number in (("priority", priority), ("timeout_ms", timeout_ms)):
        if not -_INT32 <= number < _INT32:
            raise ValueError(f"{name} is {number}, which does not fit 32 bits")
    return b"".join((
        _END, write_string(tenant), _optional(version), write_long(priority), write_long(timeout_ms),
    ))  # fmt: skip


def _optional(text: str | None) -> bytes:
    return _NONE if text is None else _SOME + write_string(text)


def _blob(blob: BlobRef | None) -> bytes:
    return _NONE if blob is None else _SOME + write_string(blob.digest) + write_long(blob.size_bytes)


def write_arrays(
    prefix: bytes,
    request_id: str,
    model: str,
    inputs: Mapping[str, Array],
    *,
    tenant: str = "default",
    version: str | None = None,
    priority: int = 5,
    timeout_ms: int = 0,
    routing_key: str | None = None,
    blob: BlobRef | None = None,
) -> bytes:
    """Value of a request whose tensors are numpy arrays; ``prefix`` is the codec's. ValueError for what cannot be."""
    parts: list[Any] = [prefix, write_string(request_id), _head(model, len(inputs))]
    for name, values in inputs.items():
        datatype, shape, data = wire_form(name, values)
        size = len(data) if isinstance(data, bytes) else data.nbytes
        parts += (_tensor_head(name, datatype, shape, size), data)
    parts += (_options(tenant, version, priority, timeout_ms), _optional(routing_key), _blob(blob))
    return b"".join(parts)


def write_request(prefix: bytes, request: InferenceRequest) -> bytes:
    """Value of a request record; ``prefix`` is the codec's. ValueError for what cannot be written."""
    parts = [prefix, write_string(request.request_id), _head(request.model, len(request.inputs))]
    for tensor in request.inputs:
        shape = tuple(tensor.shape)
        parts += (_tensor_head(tensor.name, tensor.datatype, shape, len(tensor.data)), tensor.data)
    options = _options(request.tenant, request.version, request.priority, request.timeout_ms)
    parts += (options, _optional(request.routing_key), _blob(request.blob))
    return b"".join(parts)

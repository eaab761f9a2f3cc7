"""Rules at the door: which requests may become rows of a frame. Pure; the edge's loop hands requests in.

Every field is checked in a fixed order and the first failure wins, so that a request has one code. The order puts cheap
and structural checks before those that look at tensor bytes. A request whose data is in a blob is checked against what
its shapes and datatypes imply; whether that data is finite cannot be said at the door.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from agents.door import CODE, barred
from schemas.model import ModelVersion, TensorSpec
from schemas.request import BlobRef, InferenceRequest, Tensor
from streams.check_id import TENANT, is_check
from streams.columns import DATATYPE_BYTES, NUMPY_DTYPES
from streams.memory_view import MemoryView, active_version, model_version, models, plan
from streams.tensors import BYTES, FLOATING, MalformedBytesError, check_texts, count_of, is_finite

MAX_BATCH_ITEMS: Final = 128
MAX_TENSOR_BYTES: Final = 10_000_000
MAX_TEXTS: Final = 65_536
"""Elements of one BYTES tensor: each is looked at by itself, so their number is what costs."""
_MODEL: Final = re.compile(r"[a-zA-Z0-9_\-]{3,64}")
_VERSION: Final = re.compile(r"v\d+\.\d+\.\d+")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TENANT: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,64}")


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Limits of the door, in milliseconds; ``region``: where this stack stands, for rules.

    ``check_key``: by which requests of checks are known (``streams.check_id``); without it there are none.
    """

    default_timeout_ms: int = 30_000
    max_timeout_ms: int = 120_000
    region: str = ""
    check_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not admitted: code of the closed list, sentence, hint in ms."""

    code: str
    message: str
    retry_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that passed: its batch items, its budget in ms, and its tensors in signature order.

    ``blocks``: (name, datatype, item shape, row-major bytes) per input tensor. With a ``blob`` the bytes are empty and
    the blocks stand in the request's order, which is that of their data in the blob.
    """

    items: int
    timeout_ms: int
    blocks: tuple[tuple[str, str, tuple[int, ...], bytes], ...]
    blob: BlobRef | None = None


def admit(request: InferenceRequest, memory: MemoryView, policy: AdmissionPolicy) -> Admitted | Refusal:
    """Check every field of a request against the policy and the registered signature."""
    refusal = check_fields(request, policy)
    if refusal is not None:
        return refusal
    target = signature_of(request, memory)
    if isinstance(target, Refusal):
        return target
    if why := barred(request.tenant, target, memory, policy.region):
        return Refusal(CODE, why)
    return check_tensors(request.inputs, target, budget_ms(request, memory, policy), request.blob)


def budget_ms(request: InferenceRequest, memory: MemoryView, policy: AdmissionPolicy) -> int:
    """The request's own budget, else that of the model's plan, else the policy's."""
    if request.timeout_ms:
        return request.timeout_ms
    effective = plan(memory, request.model)
    return policy.default_timeout_ms if effective is None else min(effective.timeout_ms, policy.max_timeout_ms)


def check_fields(request: InferenceRequest, policy: AdmissionPolicy) -> Refusal | None:
    """The fields beside the tensors, and the sizes of all tensors together."""
    if not 1 <= len(request.request_id) <= 64:
        return Refusal(
            "invalid_request_id", f"the request id has {len(request.request_id)} characters, allowed are 1 to 64"
        )
    if len(request.request_id.encode()) > 255:
        return Refusal("invalid_request_id", "the request id is longer than 255 bytes in UTF-8")
    if not _TENANT.fullmatch(request.tenant):
        return Refusal("invalid_tenant", "the tenant must be 1 to 64 characters of a-z, A-Z, 0-9, _ . -")
    if request.tenant == TENANT and not is_check(policy.check_key, request):
        return Refusal("reserved_tenant", f"the tenant {TENANT} is kept for checks that the stack makes itself")
    if not _MODEL.fullmatch(request.model):
        return Refusal("invalid_model_name", "the model name must be 3 to 64 characters of a-z, A-Z, 0-9, _ -")
    if request.version is not None and not _VERSION.fullmatch(request.version):
        return Refusal("invalid_version", f"the version {request.version[:64]!r} does not look like v1.0.0")
    if not 0 <= request.priority <= 9:
        return Refusal("invalid_priority", f"the priority is {request.priority}, allowed are 0 to 9")
    if not 0 <= request.timeout_ms <= policy.max_timeout_ms:
        return Refusal(
            "invalid_timeout", f"the timeout is {request.timeout_ms} ms, allowed are 0 to {policy.max_timeout_ms} ms"
        )
    size = sum(len(tensor.data) for tensor in request.inputs)
    if request.blob is not None:
        if not _DIGEST.fullmatch(request.blob.digest):
            return Refusal("invalid_blob", "the blob's digest must be a SHA-256 of 64 characters 0-9 and a-f")
        if size:
            return Refusal("invalid_blob", f"the request carries {size} bytes of tensor data beside its blob")
        size = request.blob.size_bytes
    if size > MAX_TENSOR_BYTES:
        return Refusal("payload_too_large", f"the tensors have {size} bytes, allowed are {MAX_TENSOR_BYTES}")
    return None


def signature_of(request: InferenceRequest, memory: MemoryView) -> ModelVersion | Refusal:
    """The version whose signature the request must fit: the pinned one, else the active, else the first registered."""
    registered = models(memory).get(request.model)
    if not registered:
        return Refusal("unknown_model", f"no model {request.model} is registered")
    wanted = request.version or active_version(memory, request.model) or registered[0].version
    found = model_version(memory, request.model, wanted)
    if found is None:
        return Refusal("unknown_version", f"model {request.model} has no version {wanted}")
    return found


def check_tensors(
    inputs: tuple[Tensor, ...], model: ModelVersion, timeout_ms: int, blob: BlobRef | None = None
) -> Admitted | Refusal:
    """The tensors against the signature; all must have the same first axis."""
    given = {tensor.name: tensor for tensor in inputs}
    expected = [spec.name for spec in model.inputs]
    if len(given) != len(inputs) or set(given) != set(expected):
        return Refusal("wrong_inputs", f"model {model.model} takes the inputs {', '.join(expected)}")
    items = -1
    blocks = []
    for spec in model.inputs:
        tensor = given[spec.name]
        refusal = _check_shape(tensor, spec, model.max_batch_size)
        if refusal is None and blob is None:
            refusal = _check_data(tensor, spec)
        if refusal is not None:
            return refusal
        if items not in (-1, tensor.shape[0]):
            return Refusal("wrong_shape", "the inputs differ in their first axis, which is the batch")
        items = tensor.shape[0]
        blocks.append((tensor.name, tensor.datatype, tensor.shape[1:], tensor.data))
    if blob is None:
        return Admitted(items, timeout_ms, tuple(blocks))
    size = sum(_implied_bytes(tensor) for tensor in inputs)
    has_texts = any(tensor.datatype == BYTES for tensor in inputs)
    if size > blob.size_bytes or (size < blob.size_bytes and not has_texts):
        takes = f"at least {size}" if has_texts else f"{size}"
        return Refusal("invalid_blob", f"the blob has {blob.size_bytes} bytes, the tensors' shapes take {takes}")
    return Admitted(items, timeout_ms, tuple((each.name, each.datatype, each.shape[1:], b"") for each in inputs), blob)


def _implied_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor by its shape and datatype; of BYTES those of its lengths, which is the least it can have."""
    return count_of(tensor.shape) * DATATYPE_BYTES.get(tensor.datatype, 4)


def _check_shape(tensor: Tensor, spec: TensorSpec, max_batch_size: int) -> Refusal | None:
    where = f"input {spec.name}"
    if tensor.datatype != spec.datatype:
        return Refusal("wrong_datatype", f"{where} is {tensor.datatype[:16]}, the model takes {spec.datatype}")
    wanted = f"[n, {', '.join('any' if length < 0 else str(length) for length in spec.item_shape)}]"
    if len(tensor.shape) != len(spec.item_shape) + 1:
        return Refusal("wrong_shape", f"{where} has {len(tensor.shape)} axes, the model takes {wanted}")
    limit = min(MAX_BATCH_ITEMS, max_batch_size) if max_batch_size > 0 else MAX_BATCH_ITEMS
    if tensor.shape[0] > limit:
        return Refusal("batch_too_large", f"{where} has a batch of {tensor.shape[0]}, allowed are {limit}")
    fits = all(
        length >= 0 and want in (-1, length) for length, want in zip(tensor.shape[1:], spec.item_shape, strict=True)
    )
    if tensor.shape[0] < 1 or not fits:
        return Refusal("wrong_shape", f"{where} has the shape {list(tensor.shape)}, the model takes {wanted}")
    if 0 in tensor.shape and count_of([max(1, length) for length in tensor.shape]) > MAX_TENSOR_BYTES:
        return Refusal(
            "payload_too_large", f"{where} has the shape {list(tensor.shape)}, whose other axes are too long"
        )
    if tensor.datatype == BYTES and count_of(tensor.shape) > MAX_TEXTS:
        return Refusal("payload_too_large", f"{where} has {count_of(tensor.shape)} texts, allowed are {MAX_TEXTS}")
    return None


def _check_data(tensor: Tensor, spec: TensorSpec) -> Refusal | None:
    where = f"input {spec.name}"
    if spec.datatype == BYTES:
        try:
            check_texts(tensor.data, count_of(tensor.shape))
        except MalformedBytesError as error:
            return Refusal("malformed_bytes", f"{where}: {error}")
        return None
    size = _implied_bytes(tensor)
    if size != len(tensor.data):
        return Refusal(
            "wrong_shape",
            f"{where} has {len(tensor.data)} bytes, its shape {list(tensor.shape)} of {spec.datatype} takes {size}",
        )
    if not spec.allow_nan and spec.datatype in FLOATING:
        values = np.frombuffer(tensor.data, NUMPY_DTYPES[spec.datatype])
        if not is_finite(spec.datatype, values).all():
            return Refusal("not_finite", f"{where} holds NaN or infinity, which the model's manifest forbids")
    return None

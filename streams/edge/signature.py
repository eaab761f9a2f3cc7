"""What the door says of a request's signature, kept: the pure rule runs once per signature and memory sequence.

The rule is asked with the signature's own model, tenant, tensors and options, a good id and zeros for data. What it
says of such a request holds for every one with this signature whose id is good and whose numbers are finite where they
must be; whether they must is asked of the rule too, with NaN for data. All that it refuses, and all that a signature
cannot answer for (data in which bytes mean more than numbers), has no verdict here and is asked one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas.request import InferenceRequest
from streams.codec import Codec
from streams.columns import DATATYPE_BYTES
from streams.edge.request_columns import MAX_TENSORS
from streams.edge.request_row import digest_head
from streams.errors import PoisonRecordError

TOPIC: Final = "inference.requests"
MAX_KEPT: Final = 1024
MAX_SIGNATURE_BYTES: Final = 4096
NUMBERS: Final = frozenset(
    ("INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "FP16", "FP32", "FP64")
)
"""Datatypes of which every bit pattern is allowed, but for numbers that are not finite."""
FLOATS: Final = frozenset(("FP16", "FP32", "FP64"))

Pieces = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that passes the door.

    ``heads``: name, datatype, item shape of each block in the model's order; ``tensors``: index in the request of each;
    ``widths``: per tensor of the request the bytes of a number that must be finite, 0 for any. ``digest_head``: what an
    input digest holds beside the data.
    """

    tenant: str
    model: str
    version: str
    priority: int
    items: int
    timeout_us: int
    heads: tuple[tuple[str, str, tuple[int, ...]], ...]
    tensors: tuple[int, ...]
    widths: tuple[int, ...]
    digest_head: bytes


class Signatures:
    """Verdicts as of one memory sequence. ``admit`` is the rule (``request_reader.Admit``)."""

    def __init__(self, codec: Codec, admit: Callable[[InferenceRequest], Any]) -> None:
        self._codec = codec
        self._admit = admit
        self._kept: dict[Pieces, Signature | None] = {}
        self._met: dict[Pieces, None] = {}
        self._as_of: tuple[int, bytes] = (-1, b"")

    def begin(self, memory_sequence: int, prefix: bytes) -> None:
        """Forget what was said as of another sequence, or of another schema."""
        if self._as_of != (memory_sequence, prefix):
            self._as_of = (memory_sequence, prefix)
            self._kept.clear()

    def get(self, pieces: Pieces, sizes: tuple[int, ...]) -> Signature | None:
        """The signature of ``pieces`` between which data of ``sizes`` bytes stands; None: ask for each request.

        It is judged when it is met the second time: to judge one costs as much as some requests do, and a client may
        never send the same twice.
        """
        found = self._kept.get(pieces, self)
        if not isinstance(found, Signatures):
            return found
        if pieces not in self._met:
            if sum(map(len, pieces)) <= MAX_SIGNATURE_BYTES:
                _keep(self._met, pieces, None)
            return None
        found = self._judge(pieces, sizes)
        _keep(self._kept, pieces, found)
        return found

    def _judge(self, pieces: Pieces, sizes: tuple[int, ...]) -> Signature | None:
        parts = [self._as_of[1], b"\x02x"]
        for piece, size in zip(pieces, (*sizes, 2), strict=True):  # the end: no routing key, no blob
            parts += (piece, bytes(size))
        try:
            request: InferenceRequest = self._codec.decode(TOPIC, b"".join(parts))
        except PoisonRecordError:
            return None
        names = [tensor.name for tensor in request.inputs]
        if not all(tensor.datatype in NUMBERS for tensor in request.inputs):
            return None
        verdict = self._admit(request)
        if hasattr(verdict, "code"):
            return None
        tensors = tuple([names.index(name) for name, *_ in verdict.blocks])
        heads = tuple([block[:3] for block in verdict.blocks])
        widths = [self._width(request, index) for index in range(len(names))]
        version = request.version or ""
        return Signature(
            request.tenant, request.model, version, request.priority, verdict.items, verdict.timeout_ms * 1000, heads,
            tensors, tuple(widths + [0] * (MAX_TENSORS - len(widths))),
            digest_head(request.model, version, verdict.items, heads),
        )  # fmt: skip

    def _width(self, request: InferenceRequest, index: int) -> int:
        """Bytes of a tensor's number if the rule wants it finite, else 0."""
        tensor = request.inputs[index]
        if tensor.datatype not in FLOATS:
            return 0
        inputs = list(request.inputs)
        inputs[index] = replace(tensor, data=b"\xff" * len(tensor.data))  # NaN in each of the formats
        refused = hasattr(self._admit(replace(request, inputs=tuple(inputs))), "code")
        return DATATYPE_BYTES[tensor.datatype] if refused else 0


def _keep(kept: dict[Pieces, Any], pieces: Pieces, value: Any) -> None:
    while len(kept) >= MAX_KEPT:
        del kept[next(iter(kept))]
    kept[pieces] = value

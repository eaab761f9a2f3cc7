"""Signatures of ONNX models in the words of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from schemas.model import TensorSpec
from streams.tensors import BF16, BYTES, WIRE_DTYPES

DATATYPES: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": BF16,
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": BYTES,
}
"""ONNX Runtime's type names, by the Open Inference Protocol's; others are not served."""

TEXT: Final = np.dtype(object)


def dtype_of(datatype: str) -> np.dtype[Any]:
    """Type of the arrays of a datatype inside an executor: BYTES are ``str`` objects, BF16 is uint16."""
    return TEXT if datatype == BYTES else WIRE_DTYPES[datatype]


def blank(spec: TensorSpec, num_items: int) -> np.ndarray[Any, np.dtype[Any]]:
    """A batch of zeros or empty texts; free axes have length 1. Read-only, as views of a frame are."""
    shape = (num_items, *(1 if axis < 0 else axis for axis in spec.item_shape))
    made = np.full(shape, "", object) if spec.datatype == BYTES else np.zeros(shape, WIRE_DTYPES[spec.datatype])
    made.flags.writeable = False
    return made


def signature_of(arguments: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """Signature of a session's inputs or outputs; ValueError with a sentence where it cannot be served.

    The first axis of every tensor must be free: it is the batch.
    """
    specs = []
    for argument in arguments:
        datatype = DATATYPES.get(argument.type)
        if datatype is None:
            raise ValueError(f"`{argument.name}` has the type {argument.type}, which is not served")
        shape = list(argument.shape)
        if not shape or isinstance(shape[0], int):
            raise ValueError(f"`{argument.name}` has the shape {shape}; its first axis must be free (the batch)")
        specs.append(TensorSpec(argument.name, datatype, tuple(a if isinstance(a, int) else -1 for a in shape[1:])))
    return tuple(specs)


def fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    """Whether an item shape is one that a spec allows (-1 in the spec is any length)."""
    return len(shape) == len(spec.item_shape) and all(
        want in (-1, have) for want, have in zip(spec.item_shape, shape, strict=True)
    )

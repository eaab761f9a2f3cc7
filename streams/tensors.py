"""Tensors of the Open Inference Protocol as numpy arrays, and back."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.request import Tensor

Array = NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
        "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    }.items()
}  # fmt: skip
"""Open Inference Protocol datatypes and the numpy types that carry them."""

_DATATYPES: Final = {dtype: name for name, dtype in DTYPES.items()}


def wire_form(name: str, values: Array) -> tuple[str, Array]:
    """Datatype, and the array row-major and little-endian: itself where it is so already, else a copy.

    ValueError for a type without an Open Inference datatype.
    """
    array = np.asarray(values)
    datatype = _DATATYPES.get(array.dtype)
    if datatype is not None and array.flags.c_contiguous:
        return datatype, array
    little = array.dtype.newbyteorder("<")
    if little not in _DATATYPES:
        raise ValueError(f"input {name} has the type {array.dtype}, which has no Open Inference Protocol datatype")
    return _DATATYPES[little], np.ascontiguousarray(array, dtype=little).reshape(array.shape)


def to_tensor(name: str, values: Array) -> Tensor:
    """Tensor of an array, row-major and little-endian; ValueError for a type without an Open Inference datatype."""
    datatype, array = wire_form(name, values)
    return Tensor(name, datatype, array.shape, array.tobytes())


def to_array(tensor: Tensor) -> Array:
    """Array of a tensor: a read-only view of its bytes."""
    return np.frombuffer(tensor.data, DTYPES[tensor.datatype]).reshape(tensor.shape)

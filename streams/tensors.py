"""Tensors of the Open Inference Protocol as numpy arrays, and back.

Two datatypes are not numpy's. ``BYTES`` holds texts: each element is its length (uint32, little-endian) and its bytes,
one behind the other without padding, so that joining tensors along the batch is joining bytes and only cutting needs
``element_ends``. ``BF16`` travels as the upper half of a float32; numpy holds it as uint16.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.request import Tensor
from streams.errors import IsosError

Array = NDArray[Any]

BYTES: Final = "BYTES"
BF16: Final = "BF16"
BF16_ARRAY: Final = np.dtype([(BF16, "<u2")])
"""numpy type of the arrays that ``to_bf16`` makes; those of the package ml_dtypes are taken as well."""
FLOATING: Final = frozenset(("FP16", "BF16", "FP32", "FP64"))
"""Datatypes that can hold NaN or infinity."""

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
        "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    }.items()
}  # fmt: skip
"""Open Inference Protocol datatypes that numpy has, and the types that carry them."""

WIRE_DTYPES: Final[dict[str, np.dtype[Any]]] = {**DTYPES, BF16: np.dtype("<u2")}
"""Every datatype whose elements have one width, and the numpy type that has their bytes."""

DATATYPES: Final = (*WIRE_DTYPES, BYTES)
"""Every datatype that is served."""

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_LENGTH: Final = struct.Struct("<I")
_TEXT_KINDS: Final = "SU"


class MalformedBytesError(IsosError):
    """The data of a BYTES tensor is not ``count`` elements of length and UTF-8 text."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def element_ends(data: bytes, count: int) -> list[int]:
    """Where each of ``count`` elements of BYTES data ends. Raises MalformedBytesError where it is not so many."""
    at, ends = 0, []
    unpack = _LENGTH.unpack_from
    try:
        for _ in range(count):
            at += 4 + unpack(data, at)[0]
            ends.append(at)
    except struct.error:
        raise MalformedBytesError(_cut_off(data, ends, count)) from None
    if at != len(data):
        problem = _cut_off(data, ends, count) if at > len(data) else f"{len(data) - at} bytes follow element {count}"
        raise MalformedBytesError(f"{problem}, the shape takes {count}" if at < len(data) else problem)
    return ends


def _cut_off(data: bytes, ends: list[int], count: int) -> str:
    whole = sum(end <= len(data) for end in ends)
    return f"element {whole + 1} of {count} ends behind the data, which has {len(data)} bytes"


def prefix_end(data: bytes, start: int, count: int) -> int:
    """Where ``count`` elements of BYTES data end that begin at ``start``, other tensors' data may follow.

    Raises MalformedBytesError where they reach behind the data.
    """
    at = start
    try:
        for _ in range(count):
            at += 4 + _LENGTH.unpack_from(data, at)[0]
    except struct.error:
        at = len(data) + 1
    if at > len(data):
        raise MalformedBytesError(f"{count} elements reach behind the data, which has {len(data) - start} bytes")
    return at


def check_texts(data: bytes, count: int) -> None:
    """Raise MalformedBytesError unless ``data`` is ``count`` elements, each UTF-8: ONNX has no other strings."""
    ends = element_ends(data, count)
    if data.isascii():  # lengths below 128 are ASCII too
        return
    start = 0
    for number, end in enumerate(ends):
        try:
            data[start + 4 : end].decode()
        except UnicodeDecodeError:
            raise MalformedBytesError(f"element {number + 1} of {count} is no UTF-8 text") from None
        start = end


def texts(data: bytes, start: int, shape: Sequence[int]) -> Array:
    """The elements of BYTES data from ``start`` on as an array of ``str``, what ONNX Runtime takes.

    For data that passed ``check_texts``: what follows the elements is not looked at.
    """
    at, found = start, []
    unpack = _LENGTH.unpack_from
    for _ in range(count_of(shape)):
        end = at + 4 + unpack(data, at)[0]
        found.append(str(data[at + 4 : end], "utf-8"))
        at = end
    return _objects(found, shape)


def _parts(data: bytes, shape: Sequence[int]) -> list[bytes]:
    start, parts = 0, []
    for end in element_ends(data, count_of(shape)):
        parts.append(data[start + 4 : end])
        start = end
    return parts


def _objects(values: list[Any], shape: Sequence[int]) -> Array:
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(tuple(shape))


def count_of(shape: Sequence[int]) -> int:
    """Number of elements of a shape; 1 without axes."""
    count = 1
    for length in shape:
        count *= length
    return count


def encode_texts(values: Array) -> bytes:
    """BYTES data of an array of ``str`` or ``bytes``, row-major. ValueError for other objects."""
    parts: list[bytes] = []
    for value in values.ravel().tolist():
        if isinstance(value, str):
            value = value.encode()
        elif not isinstance(value, bytes):
            raise ValueError(f"a text must be str or bytes, not {type(value).__name__}")
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def data_of(array: Array) -> bytes:
    """Wire data of an array that has the wire's own type: numbers as they are, objects as texts."""
    return encode_texts(array) if array.dtype.hasobject else array.tobytes()


def is_finite(datatype: str, values: Array) -> NDArray[np.bool_]:
    """Per element of wire type whether it is neither NaN nor infinite; all of them where the datatype has neither."""
    if datatype == BF16:
        return np.asarray((values & 0x7F80) != 0x7F80)
    if datatype in FLOATING:
        return np.asarray(np.isfinite(values))
    return np.ones(values.shape, np.bool_)


def widened(values: Array) -> Array:
    """BF16 (uint16) as float32, exactly."""
    return (values.astype("<u4") << np.uint32(16)).view("<f4")


def narrowed(values: Array) -> Array:
    """float32 as BF16 (uint16), rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(is_nan, quiet, rounded).astype("<u2").reshape(np.shape(values))


def to_bf16(values: Array) -> Array:
    """An array that is sent as BF16, of any real numbers: rounded to the nearest, ties to even."""
    return narrowed(np.asarray(values)).view(BF16_ARRAY)


def wire_form(name: str, values: Array) -> tuple[str, tuple[int, ...], Array | bytes]:
    """Datatype, shape and data, row-major and little-endian: the array itself where it is so already, else a copy.

    Arrays of str or bytes become BYTES, those of ``to_bf16`` and of the type bfloat16 BF16. ValueError for a type
    without an Open Inference datatype.
    """
    array = np.asarray(values)
    datatype = _NAMES.get(array.dtype)
    if datatype is not None and array.flags.c_contiguous:
        return datatype, array.shape, array
    if array.dtype.kind in _TEXT_KINDS or array.dtype.hasobject:
        try:
            return BYTES, array.shape, encode_texts(array)
        except ValueError as error:
            raise ValueError(f"input {name}: {error}") from None
    if array.dtype == BF16_ARRAY or array.dtype.name == "bfloat16":
        return BF16, array.shape, np.ascontiguousarray(array).reshape(array.shape).view("<u2")
    little = array.dtype.newbyteorder("<")
    if little not in _NAMES:
        raise ValueError(f"input {name} has the type {array.dtype}, which has no Open Inference Protocol datatype")
    return _NAMES[little], array.shape, np.ascontiguousarray(array, dtype=little).reshape(array.shape)


def to_tensor(name: str, values: Array) -> Tensor:
    """Tensor of an array, row-major and little-endian; ValueError for a type without an Open Inference datatype."""
    datatype, shape, data = wire_form(name, values)
    return Tensor(name, datatype, shape, data if isinstance(data, bytes) else data.tobytes())


def to_array(tensor: Tensor) -> Array:
    """Array of a tensor: a read-only view of its bytes; BYTES as ``bytes`` objects, BF16 as float32.

    Raises MalformedBytesError.
    """
    if tensor.datatype == BYTES:
        return _objects(_parts(tensor.data, tensor.shape), tensor.shape)
    array = np.frombuffer(tensor.data, WIRE_DTYPES[tensor.datatype]).reshape(tensor.shape)
    return widened(array) if tensor.datatype == BF16 else array


def largest_item_bytes(array: Array) -> int:
    """An upper bound of an item's wire data, for an array ``[items, ...]`` of numbers or of texts."""
    if not array.dtype.hasobject:
        return array.nbytes // max(1, len(array))
    return max((_text_bytes(item) for item in array.reshape(len(array), -1).tolist()), default=0) if array.size else 0


def _text_bytes(values: list[str]) -> int:
    return sum([4 + len(value) * (1 if value.isascii() else 4) for value in values])

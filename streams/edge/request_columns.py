"""Request values as columns: one compiled pass finds the parts of each value and groups values that differ in few.

Reads what is written with our own schema of InferenceRequest, in the usual form: one block of tensors, no blob, id and
routing key in ASCII, every length inside the value and the value consumed to its last byte. Whatever else stands in a
record is left to the codec, which knows every form and says what is wrong.

A value's *signature* is everything but its id, its routing key and its tensors' data: model, tensor names, datatypes,
shapes and sizes, tenant, version, priority, timeout. Two values of one group have equal signatures, byte by byte; two
groups may have equal ones, so a group decides nothing but what is looked at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streams.record_columns import VALUE, VALUE_END, _varint

MAX_TENSORS: Final = 4
MAX_AXES: Final = 16
PREFIX_BYTES: Final = 5
MAX_ID_CHARS: Final = 64

ID, ID_END, ROUTING_KEY, ROUTING_KEY_END, TAIL_END, NUM_TENSORS, DATA_BYTES, DATA = range(8)
"""Rows of the table of parts; from ``DATA`` on, start and end of each tensor's data."""
NUM_PARTS: Final = DATA + 2 * MAX_TENSORS

Array = NDArray[Any]
Int = Any
"""A machine integer inside compiled code."""
_BYTES: Final = "Array(uint8, 1, 'C', readonly=True)"
_PROBES: Final = 16


def parts_of(data: bytes, records: Array, prefix: bytes, max_data_bytes: int) -> tuple[Array, Array, list[int]]:
    """Parts (int64 [NUM_PARTS, n]) of the values in ``records`` (a ``RecordColumns.table``), and their groups.

    Gives parts, group of each record (int64 [n], -1: left to the codec) and the first record of each group.
    ``prefix``: the five bytes before a value that this may read; tensors of at most ``max_data_bytes`` in all.
    """
    num = records.shape[1]
    parts = np.zeros((NUM_PARTS, num), np.int64)
    groups, firsts = np.empty(num, np.int64), np.empty(num, np.int64)
    slots = np.full(1 << max(4, (2 * num - 1).bit_length()), -1, np.int64)
    found = _parse(
        np.frombuffer(data, np.uint8), records, np.frombuffer(prefix, np.uint8), max_data_bytes, parts, groups, firsts,
        slots, np.empty(num, np.uint64),
    )  # fmt: skip
    return parts, groups, firsts[:found].tolist()


def signature_of(data: bytes, parts: Array, at: int) -> tuple[bytes, ...]:
    """The pieces of a value's signature, between which the data of its tensors stands; the last is its end."""
    column = parts[:, at].tolist()
    pieces, start = [], column[ID_END]
    for tensor in range(column[NUM_TENSORS]):
        pieces.append(data[start : column[DATA + 2 * tensor]])
        start = column[DATA + 2 * tensor + 1]
    pieces.append(data[start : column[TAIL_END]])
    return tuple(pieces)


def finite_rows(data: bytes, parts: Array, groups: Array, widths: Array) -> Array:
    """Whether the numbers of each record that must be finite are; bool [n].

    ``widths``: uint8 [groups, MAX_TENSORS], bytes of a floating-point number that is to be looked at, 0 for no look.
    """
    out = np.ones(len(groups), np.bool_)
    _finite(np.frombuffer(data, np.uint8), parts, groups, widths, out)
    return out


def gathered(data: bytes, starts: Array, ends: Array) -> bytes:
    """The spans of ``data`` one after another (int64 [n] each)."""
    total = int((ends - starts).sum())
    out = np.empty(total, np.uint8)
    _gather(np.frombuffer(data, np.uint8), np.ascontiguousarray(starts), np.ascontiguousarray(ends), out)
    return out.tobytes()


@njit(f"int64({_BYTES}, int64, int64, int64)", cache=True, nogil=True)
def _text_end(data: Array, at: Int, end: Int, most: Int) -> Int:
    """Index behind an ASCII text of at most ``most`` bytes that ends at ``end``; -1 where it is none."""
    if end - at > most:
        return np.int64(-1)
    for i in range(at, end):
        if data[i] >= 0x80:
            return np.int64(-1)
    return end


@njit(f"int64({_BYTES}, int64, int64)", cache=True, nogil=True)
def _skip_sized(data: Array, at: Int, end: Int) -> Int:
    size, at = _varint(data, at, end)
    if at < 0 or size < 0 or size > end - at:
        return np.int64(-1)
    return at + size


@njit(f"int64({_BYTES}, int64, int64, int64[:, ::1], int64)", cache=True, nogil=True)
def _tensors(data: Array, at: Int, end: Int, parts: Array, row: Int) -> Int:
    """Index behind the tensors; -1 when they are too many, in several blocks, or do not fit."""
    count, at = _varint(data, at, end)
    if at < 0 or count < 1 or count > MAX_TENSORS:
        return np.int64(-1)
    parts[NUM_TENSORS, row] = count
    for tensor in range(count):
        at = _skip_sized(data, at, end)
        if at < 0:
            return at
        at = _skip_sized(data, at, end)
        if at < 0:
            return at
        axes, at = _varint(data, at, end)
        if at < 0 or axes < 1 or axes > MAX_AXES:
            return np.int64(-1)
        for _ in range(axes):
            _, at = _varint(data, at, end)
            if at < 0:
                return at
        if at >= end or data[at] != 0:
            return np.int64(-1)
        size, at = _varint(data, at + 1, end)
        if at < 0 or size < 0 or size > end - at:
            return np.int64(-1)
        parts[DATA + 2 * tensor, row] = at
        at += size
        parts[DATA + 2 * tensor + 1, row] = at
        parts[DATA_BYTES, row] += size
    if at >= end or data[at] != 0:
        return np.int64(-1)
    return at + 1


@njit(f"boolean({_BYTES}, int64, int64, int64[:, ::1], int64)", cache=True, nogil=True)
def _value(data: Array, at: Int, end: Int, parts: Array, row: Int) -> Int:
    """Fill the parts of one value's body."""
    size, at = _varint(data, at, end)
    if at < 0 or size < 1 or size > end - at or _text_end(data, at, at + size, MAX_ID_CHARS) < 0:
        return False
    parts[ID, row] = at
    at += size
    parts[ID_END, row] = at
    at = _skip_sized(data, at, end)  # model
    if at < 0:
        return False
    at = _tensors(data, at, end, parts, row)
    if at < 0:
        return False
    at = _skip_sized(data, at, end)  # tenant
    if at < 0 or at >= end:
        return False
    if data[at] == 2:
        at = _skip_sized(data, at + 1, end)  # version
        if at < 0:
            return False
    elif data[at] == 0:
        at += 1
    else:
        return False
    for _ in range(2):  # priority and timeout
        _, at = _varint(data, at, end)
        if at < 0:
            return False
    parts[TAIL_END, row] = at
    if at >= end:
        return False
    if data[at] == 2:
        size, at = _varint(data, at + 1, end)
        if at < 0 or size < 0 or size > end - at or _text_end(data, at, at + size, end) < 0:
            return False
        parts[ROUTING_KEY, row] = at
        at += size
        parts[ROUTING_KEY_END, row] = at
    elif data[at] == 0:
        at += 1
    else:
        return False
    return at == end - 1 and data[at] == 0  # no blob


@njit(f"uint64({_BYTES}, int64, int64, uint64)", cache=True, nogil=True)
def _hash(data: Array, at: Int, end: Int, seed: Int) -> Int:
    """FNV-1a, 64 bit."""
    for i in range(at, end):
        seed = (seed ^ np.uint64(data[i])) * np.uint64(1099511628211)
    return seed


@njit(f"boolean({_BYTES}, int64, int64, int64, int64)", cache=True, nogil=True)
def _same(data: Array, a: Int, a_end: Int, b: Int, b_end: Int) -> Int:
    if a_end - a != b_end - b:
        return False
    for i in range(a_end - a):  # noqa: SIM110 - compiled code has no generators
        if data[a + i] != data[b + i]:
            return False
    return True


@njit(f"boolean({_BYTES}, int64[:, ::1], int64, int64)", cache=True, nogil=True)
def _alike(data: Array, parts: Array, a: Int, b: Int) -> Int:
    """Whether two values have the same signature."""
    num = parts[NUM_TENSORS, a]
    if parts[NUM_TENSORS, b] != num:
        return False
    at_a, at_b = parts[ID_END, a], parts[ID_END, b]
    for tensor in range(num):
        if not _same(data, at_a, parts[DATA + 2 * tensor, a], at_b, parts[DATA + 2 * tensor, b]):
            return False
        at_a, at_b = parts[DATA + 2 * tensor + 1, a], parts[DATA + 2 * tensor + 1, b]
    return _same(data, at_a, parts[TAIL_END, a], at_b, parts[TAIL_END, b])


@njit(f"uint64({_BYTES}, int64[:, ::1], int64)", cache=True, nogil=True)
def _hash_of(data: Array, parts: Array, row: Int) -> Int:
    found, at = np.uint64(14695981039346656037), parts[ID_END, row]
    for tensor in range(parts[NUM_TENSORS, row]):
        found = _hash(data, at, parts[DATA + 2 * tensor, row], found)
        at = parts[DATA + 2 * tensor + 1, row]
    return _hash(data, at, parts[TAIL_END, row], found)


@njit(
    f"int64({_BYTES}, int64[:, ::1], {_BYTES}, int64, int64[:, ::1], int64[::1], int64[::1], int64[::1], uint64[::1])",
    cache=True,
    nogil=True,
)
def _parse(
    data: Array, records: Array, prefix: Array, max_data_bytes: Int, parts: Array, groups: Array, firsts: Array,
    slots: Array, hashes: Array,
) -> Int:  # fmt: skip
    """Fill ``parts``, ``groups``, ``firsts``; number of groups. ``slots``: a table of groups, a power of two long."""
    num, mask = np.int64(0), len(slots) - 1
    for row in range(records.shape[1]):
        at, end = records[VALUE, row], records[VALUE_END, row]
        groups[row] = -1
        if at < 0 or end - at < PREFIX_BYTES:
            continue
        ours = True
        for i in range(PREFIX_BYTES):
            ours = ours and data[at + i] == prefix[i]
        if not ours or not _value(data, at + PREFIX_BYTES, end, parts, row) or parts[DATA_BYTES, row] > max_data_bytes:
            continue
        found = _hash_of(data, parts, row)
        slot = np.int64(found & np.uint64(mask))
        # Whoever makes many hashes meet makes groups, not work: equality decides, after a few looks a new group does.
        for _ in range(_PROBES):
            other = slots[slot]
            if other < 0 or (hashes[other] == found and _alike(data, parts, firsts[other], row)):
                break
            slot = (slot + 1) & mask
        other = slots[slot]
        if other < 0 or not (hashes[other] == found and _alike(data, parts, firsts[other], row)):
            slots[slot] = other = num
            hashes[num], firsts[num] = found, row
            num += 1
        groups[row] = other
    return num


@njit(f"void({_BYTES}, int64[:, ::1], int64[::1], uint8[:, ::1], boolean[::1])", cache=True, nogil=True)
def _finite(data: Array, parts: Array, groups: Array, widths: Array, out: Array) -> None:
    """A number is NaN or infinite exactly if all bits of its exponent are set (IEEE 754), little-endian."""
    for row in range(len(groups)):
        if groups[row] < 0:
            continue
        for tensor in range(parts[NUM_TENSORS, row]):
            width = np.int64(widths[groups[row], tensor])
            if width == 0:
                continue
            low = 0x7C if width == 2 else 0x7F
            second = 0x00 if width == 2 else (0x80 if width == 4 else 0xF0)
            bad = 0
            for at in range(parts[DATA + 2 * tensor, row], parts[DATA + 2 * tensor + 1, row], width):
                bad |= (data[at + width - 1] & low == low) & (data[at + width - 2] & second == second)
            if bad:
                out[row] = False


@njit(f"void({_BYTES}, int64[::1], int64[::1], uint8[::1])", cache=True, nogil=True)
def _gather(data: Array, starts: Array, ends: Array, out: Array) -> None:
    place = 0
    for row in range(len(starts)):
        size = ends[row] - starts[row]
        out[place : place + size] = data[starts[row] : ends[row]]
        place += size

"""The requests of one tick and one source partition: columns where they are alike, rows where they are not.

``batch_of`` finds out which records the compiled readers and the kept verdicts answer for. The others, at the indexes
``others``, are made rows by the codec and the rule (``request_reader``) and put into ``rows``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.edge.request_columns import (
    DATA,
    ID,
    ID_END,
    MAX_TENSORS,
    ROUTING_KEY,
    ROUTING_KEY_END,
    finite_rows,
    parts_of,
    signature_of,
)
from streams.edge.request_row import DIGEST_BYTES
from streams.edge.signature import Signature, Signatures
from streams.frame_builder import Row
from streams.record_columns import OFFSET, TIMESTAMP, RecordColumns

MAX_KEY_BYTES: Final = 256

Array = NDArray[Any]


@dataclass(slots=True)
class RequestBatch:
    """``signature`` of each record: index into ``signatures``, -1 where a row stands (or is still to be made).

    ``gaps``: offsets just before each record that hold no request; ``received_us``: broker's time.
    """

    records: RecordColumns
    gaps: Array
    received_us: Array
    parts: Array
    signature: Array
    signatures: list[Signature]
    others: list[int]
    rows: dict[int, tuple[Row, bool]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def partition(self) -> int:
        """Source partition."""
        return self.records.partition

    @property
    def offsets(self) -> Array:
        """Offsets of the records."""
        offsets: Array = self.records.table[OFFSET]
        return offsets

    def ids(self, chosen: Array) -> list[bytes]:
        """Request ids of some columnar records."""
        data = self.records.data
        starts, ends = self.parts[ID, chosen].tolist(), self.parts[ID_END, chosen].tolist()
        return [data[start:end] for start, end in zip(starts, ends, strict=True)]

    def digests(self, chosen: Array) -> list[bytes]:
        """``request_row.input_digest`` of some columnar records."""
        data, signatures = self.records.data, self.signatures
        heads = [each.digest_head for each in signatures]
        numbers = self.signature[chosen].tolist()
        if all(len(each.tensors) == 1 for each in signatures):
            starts, ends = self.parts[DATA, chosen].tolist(), self.parts[DATA + 1, chosen].tolist()
            return [
                blake2b(heads[number] + sha256(data[start:end]).digest(), digest_size=DIGEST_BYTES).digest()
                for number, start, end in zip(numbers, starts, ends, strict=True)
            ]
        return [
            blake2b(heads[number] + sha256(b"".join(self._data(at))).digest(), digest_size=DIGEST_BYTES).digest()
            for number, at in zip(numbers, chosen.tolist(), strict=True)
        ]

    def row(self, at: int) -> Row:
        """The row of a columnar record."""
        each, data = self.signatures[self.signature[at]], self.records.data
        received_us = int(self.received_us[at])
        key = data[self.parts[ROUTING_KEY, at] : self.parts[ROUTING_KEY_END, at]][:MAX_KEY_BYTES]
        blocks = tuple([(*head, content) for head, content in zip(each.heads, self._data(at), strict=True)])
        return Row(
            int(self.offsets[at]), int(self.gaps[at]), received_us, received_us + each.timeout_us, each.priority,
            data[self.parts[ID, at] : self.parts[ID_END, at]], each.tenant, key, each.model, each.version, each.items,
            blocks,
        )  # fmt: skip

    def _data(self, at: int) -> list[bytes]:
        """Data of a columnar record's blocks."""
        column, data = self.parts[DATA:, at].tolist(), self.records.data
        tensors = self.signatures[self.signature[at]].tensors
        return [data[column[2 * each] : column[2 * each + 1]] for each in tensors]


def batch_of(
    records: RecordColumns, expected: int, signatures: Signatures, prefix: bytes, max_data_bytes: int
) -> RequestBatch:
    """Columns of what was fetched. ``expected``: the offset that was to come; ``prefix``: of values that may be read.

    Records whose data is above ``max_data_bytes`` are left to ``rows``.
    """
    table = records.table
    offsets = table[OFFSET]
    gaps = np.empty(len(records), np.int64)
    gaps[0] = max(0, records.first - expected)
    np.subtract(offsets[1:], offsets[:-1], out=gaps[1:])
    gaps[1:] -= 1
    parts, groups, firsts = parts_of(records.data, table, prefix, max_data_bytes)
    found: list[Signature] = []
    number: list[int] = []
    for first in firsts:
        sizes = parts[DATA:, first]
        pieces = signature_of(records.data, parts, first)
        sizes = (sizes[1::2] - sizes[::2])[: len(pieces) - 1].tolist()
        signature = signatures.get(pieces, tuple(sizes))
        number.append(-1 if signature is None else len(found))
        if signature is not None:
            found.append(signature)
    numbers = np.array([*number, -1], np.int64)[groups]  # the last one is for those without a group
    if any(any(each.widths) for each in found):
        widths = np.array([each.widths for each in found], np.uint8).reshape(-1, MAX_TENSORS)
        numbers[~finite_rows(records.data, parts, numbers, widths)] = -1
    others = np.flatnonzero(numbers < 0).tolist()
    return RequestBatch(records, gaps, table[TIMESTAMP] * 1000, parts, numbers, found, others)

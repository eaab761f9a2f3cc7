"""Conservation of requests: per partition, received = ok + error + rejected + expired + in flight + missing.

Pure: records go in, counts and offsets come out. A request is a record that was read from the requests topic (offsets
of transaction markers and below the log's start are none). A result names the request it answers in its headers, so
no value is decoded:

* ``isos-source``: ``>16siq`` = topic id (16 bytes), partition, offset of the request
* ``isos-status``: one ASCII byte, ``O`` OK, ``E`` ERROR, ``R`` REJECTED, ``X`` EXPIRED
* ``isos-reaped``: ``1`` where the reaper wrote the result; absent otherwise

Memory: 10 bytes per offset between the first and the last request of a partition, in numpy arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

SOURCE_HEADER: Final = "isos-source"
STATUS_HEADER: Final = "isos-status"
REAPED_HEADER: Final = "isos-reaped"
SOURCE: Final = struct.Struct(">16siq")
STATUS_LETTERS: Final = {b"O": 1, b"E": 2, b"R": 3, b"X": 4}
MAX_LISTED: Final = 20

_REAPED: Final = 8
_CHUNK: Final = 1 << 16

Headers = Iterable[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class OffsetList:
    """How many offsets, and the first ``MAX_LISTED`` of them in ascending order."""

    total: int
    first: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PartitionCount:
    """The equation of one partition of the requests topic; every count is a number of requests.

    ``duplicated``: requests with more than one result. ``orphaned``: offsets that have a result and hold no request.
    ``reaped``: requests whose result the reaper wrote (part of error or expired).
    """

    partition: int
    received: int
    ok: int
    error: int
    rejected: int
    expired: int
    in_flight: OffsetList
    missing: OffsetList
    duplicated: OffsetList
    orphaned: OffsetList
    reaped: OffsetList


@dataclass(frozen=True, slots=True)
class Report:
    """All partitions; ``foreign``: results that answer another topic; ``unreadable``: those without a usable source."""

    partitions: tuple[PartitionCount, ...]
    foreign: int
    unreadable: int

    def total(self, name: str) -> int:
        """Sum of a count over all partitions, by the name of a field of ``PartitionCount``."""
        values = (getattr(count, name) for count in self.partitions)
        return sum(value.total if isinstance(value, OffsetList) else int(value) for value in values)

    def violations(self, *, drained: bool = False) -> tuple[str, ...]:
        """Sentences about everything that breaks conservation; empty = it holds. ``drained`` allows none in flight."""
        names = ["missing", "duplicated", "orphaned", *(["in_flight"] if drained else [])]
        found = [_sentence(name, count, getattr(count, name)) for count in self.partitions for name in names]
        if self.unreadable:
            found.append(f"{self.unreadable} results without a readable {SOURCE_HEADER} header")
        return tuple(sentence for sentence in found if sentence)


def source_of(headers: Headers) -> tuple[bytes, int, int] | None:
    """Coordinate (topic id, partition, offset) in a result's headers, or None when it has none."""
    for name, value in headers:
        if name == SOURCE_HEADER and value is not None and len(value) == SOURCE.size:
            topic_id, partition, offset = SOURCE.unpack(value)
            return topic_id, partition, offset
    return None


def _sentence(name: str, count: PartitionCount, offsets: OffsetList) -> str:
    if not offsets.total:
        return ""
    more = f" and {offsets.total - len(offsets.first)} more" if offsets.total > len(offsets.first) else ""
    return f"partition {count.partition}: {offsets.total} {name}: offsets {', '.join(map(str, offsets.first))}{more}"


@dataclass(slots=True)
class _Partition:
    """Arrays by offset - ``base``: timestamps (ms, -1 = no request), number of results (to 255), flags of the first."""

    base: int = 0
    end: int = 0
    stamps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    results: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    flags: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    late: int = 0

    def add_requests(self, offsets: NDArray[np.int64], stamps: NDArray[np.int64]) -> None:
        """Note requests; offsets ascend over all calls."""
        if not self.end:
            self.base = int(offsets[0])
        self.end = int(offsets[-1]) + 1
        self._reserve(self.end - self.base)
        self.stamps[offsets - self.base] = stamps

    def add_results(self, offsets: NDArray[np.int64], flags: NDArray[np.uint8]) -> None:
        """Note results in log order. Those of requests outside of what was read are not ours to judge."""
        inside = (offsets >= self.base) & (offsets < self.end)
        self.late += int(np.count_nonzero(~inside))
        index, flags = offsets[inside] - self.base, flags[inside]
        # One entry per offset: numpy keeps the last of repeated indices, so write in reverse order to keep the first.
        fresh = self.results[index] == 0
        self.flags[index[fresh][::-1]] = flags[fresh][::-1]
        if index.size:
            low, high = int(index.min()), int(index.max()) + 1
            counts = np.bincount(index - low, minlength=high - low)
            self.results[low:high] = np.minimum(self.results[low:high].astype(np.int64) + counts, 255)

    def _reserve(self, length: int) -> None:
        if length > self.stamps.size:
            extra = max(length, 2 * self.stamps.size) - self.stamps.size
            self.stamps = np.concatenate([self.stamps, np.full(extra, -1, np.int64)])
            self.results = np.concatenate([self.results, np.zeros(extra, np.uint8)])
            self.flags = np.concatenate([self.flags, np.zeros(extra, np.uint8)])

    def count(self, partition: int, young_since_ms: int) -> PartitionCount:
        """Close the account: open requests stamped at or after ``young_since_ms`` are in flight, older ones missing."""
        length = self.end - self.base
        stamps, results, flags = self.stamps[:length], self.results[:length], self.flags[:length]
        request, answered = stamps >= 0, results > 0
        status = np.bincount((flags & 7)[request & answered], minlength=5)
        still_open = request & ~answered
        return PartitionCount(
            partition=partition,
            received=int(np.count_nonzero(request)),
            ok=int(status[1]),
            error=int(status[2]),
            rejected=int(status[3]),
            expired=int(status[4]),
            in_flight=self._listed(still_open & (stamps >= young_since_ms)),
            missing=self._listed(still_open & (stamps < young_since_ms)),
            duplicated=self._listed(request & (results > 1)),
            orphaned=self._listed(~request & answered),
            reaped=self._listed(request & answered & ((flags & _REAPED) > 0)),
        )

    def _listed(self, mask: NDArray[np.bool_]) -> OffsetList:
        found = np.flatnonzero(mask)
        return OffsetList(int(found.size), tuple(int(i) + self.base for i in found[:MAX_LISTED]))


class LedgerFold:
    """Fold of requests, then of results: add all requests of a partition before the results that answer them."""

    def __init__(self, topic_id: bytes) -> None:
        self._topic_id = topic_id
        self._partitions: dict[int, _Partition] = {}
        self._requests: dict[int, tuple[list[int], list[int]]] = {}
        self._results: dict[int, tuple[list[int], list[int]]] = {}
        self._foreign = 0
        self._unreadable = 0

    def add_partition(self, partition: int) -> None:
        """Make a partition appear in the report even when it holds no request."""
        self._partitions.setdefault(partition, _Partition())

    def add_request(self, partition: int, offset: int, timestamp_ms: int) -> None:
        """Note one record of the requests topic; offsets ascend within a partition."""
        offsets, stamps = self._requests.setdefault(partition, ([], []))
        offsets.append(offset)
        stamps.append(timestamp_ms)
        if len(offsets) >= _CHUNK:
            self._flush_requests(partition)

    def add_result(self, headers: Headers) -> None:
        """Note one record of the results topic by its headers."""
        source = status = None
        reaped = 0
        for name, value in headers:
            if name == SOURCE_HEADER:
                source = value
            elif name == STATUS_HEADER:
                status = value
            elif name == REAPED_HEADER:
                reaped = _REAPED
        letter = STATUS_LETTERS.get(bytes(status or b""))
        if source is None or len(source) != SOURCE.size or letter is None:
            self._unreadable += 1
            return
        topic_id, partition, offset = SOURCE.unpack(source)
        if topic_id != self._topic_id:
            self._foreign += 1
            return
        offsets, flags = self._results.setdefault(partition, ([], []))
        offsets.append(offset)
        flags.append(letter | reaped)
        if len(offsets) >= _CHUNK:
            self._flush_results(partition)

    def report(self, *, now_ms: int, max_age_ms: int) -> Report:
        """Close the account at ``now_ms``; open requests up to ``max_age_ms`` old (timeout + grace) are in flight."""
        for partition in list(self._requests):
            self._flush_requests(partition)
        for partition in list(self._results):
            self._flush_results(partition)
        since = now_ms - max_age_ms
        counts = tuple(self._partitions[partition].count(partition, since) for partition in sorted(self._partitions))
        return Report(counts, self._foreign, self._unreadable)

    def _flush_requests(self, partition: int) -> None:
        offsets, stamps = self._requests.pop(partition)
        self.add_partition(partition)
        self._partitions[partition].add_requests(np.array(offsets, np.int64), np.array(stamps, np.int64))

    def _flush_results(self, partition: int) -> None:
        if partition in self._requests:
            self._flush_requests(partition)
        offsets, flags = self._results.pop(partition)
        self.add_partition(partition)
        self._partitions[partition].add_results(np.array(offsets, np.int64), np.array(flags, np.uint8))


def fold(
    topic_id: bytes,
    requests: Iterable[tuple[int, int, int]],
    results: Iterable[Headers],
    *,
    now_ms: int,
    max_age_ms: int,
) -> Report:
    """Report over two finite iterators: requests as (partition, offset, timestamp_ms), results by their headers."""
    ledger = LedgerFold(topic_id)
    for partition, offset, timestamp_ms in requests:
        ledger.add_request(partition, offset, timestamp_ms)
    for headers in results:
        ledger.add_result(headers)
    return ledger.report(now_ms=now_ms, max_age_ms=max_age_ms)

"""Makes an aiokafka consumer hand on transaction markers too, so that a reader knows why an offset holds no record.

aiokafka passes over control batches without a word; here each of their offsets comes as a ``Marker`` among the records.
For ``read_uncommitted`` consumers only: nothing is left out of what they read. aiokafka 0.14.0 is pinned: these are
private names, all of them in this module, and ``deliver_markers`` refuses to go on when one has moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from aiokafka.consumer import fetcher as upstream
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, Fetcher, PartitionRecords
from aiokafka.errors import CorruptRecordException

from streams.errors import InvariantError

_NAMES: Final = ("_isolation_level", "_proc_fetch_request")


@dataclass(frozen=True, slots=True)
class Marker:
    """An offset that a transaction marker takes."""

    offset: int


class MarkedRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """In place of aiokafka's ``PartitionRecords``: records and markers, by offset."""

    _records: Any
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if batch.is_control_batch:
                first = max(batch.base_offset, self.next_fetch_offset)
                self.next_fetch_offset = max(first, batch.next_offset)
                yield from (Marker(offset) for offset in range(first, batch.next_offset))
                continue
            for record in batch:
                if record.offset < self.next_fetch_offset:
                    continue  # in front of the position: the broker sends whole batches
                self.next_fetch_offset = record.offset + 1
                yield self._consumer_record(self._tp, record)
            # The last offset stays in the header when compaction removes the last record.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)


def _with(method: Any, **others: Any) -> Any:
    """The same function with other names for some of what its module imports."""
    return FunctionType(
        method.__code__, {**vars(upstream), **others}, method.__name__, method.__defaults__, method.__closure__
    )


class MarkerFetcher(Fetcher):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's fetcher with markers among the records."""

    _proc_fetch_request = _with(Fetcher._proc_fetch_request, PartitionRecords=MarkedRecords)


def deliver_markers(consumer: Any) -> None:
    """Exchange a started consumer's fetcher, before it is assigned. Raises InvariantError where aiokafka changed."""
    fetcher = consumer._fetcher
    if type(fetcher) is not Fetcher or not all(hasattr(fetcher, name) for name in _NAMES):
        raise InvariantError("aiokafka's fetcher is not the one of 0.14.0, from which markers can be taken")
    if fetcher._isolation_level != READ_UNCOMMITTED:
        raise InvariantError("markers are handed on to a consumer that reads uncommitted")
    fetcher.__class__ = MarkerFetcher

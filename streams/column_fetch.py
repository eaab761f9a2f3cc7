"""Makes an aiokafka consumer hand on columns in place of records, and fetch when it is asked to.

aiokafka builds a Python object per record. Its fetcher is kept (positions, pauses, seeks, rebalances, errors), and only
what it makes of a fetched piece of the log is exchanged: ``getmany`` then gives lists of ``RecordColumns``, and its
``max_records`` counts those. Batches that are not plain go through aiokafka's own reader, so that compression, aborted
transactions, control batches and corrupt records are treated exactly as it treats them. aiokafka 0.14.0 is pinned:
these are private names, all of them in this module, and ``deliver_columns`` refuses to go on when one has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from aiokafka.consumer import fetcher as upstream
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streams.errors import InvariantError
from streams.record_columns import RecordColumns, batch_end, read_batches

MAX_RECORDS: Final = 1_250
"""Records of one piece: a batch of a million tiny ones must not become one tick's work."""
CRC_AT: Final = 17
CRC_FROM: Final = 21
_NAMES: Final = (
    "_get_actions_per_node",
    "_notify",
    "_records",
    "_wait_consume_future",
    "_proc_fetch_request",
    "fetched_records",
)


class FetchedBytes:
    """In place of aiokafka's ``MemoryRecords``: the same questions, and the bytes themselves."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._records = MemoryRecords(data)

    def has_next(self) -> bool:
        """Whether a whole batch is there."""
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        """Size of what was fetched."""
        return int(self._records.size_in_bytes())


class PartitionColumns(PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """In place of aiokafka's ``PartitionRecords``: iterates over pieces of at most ``MAX_RECORDS`` records."""

    _records: Any
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[RecordColumns]:
        data: bytes = self._records.data
        topic, partition = self._tp
        pieces: list[RecordColumns] = []
        num = at = 0
        while (end := batch_end(data, at)) >= 0:
            sound = self._sound_until(data, at)
            plain, behind, offset = read_batches(
                topic, partition, data, at, sound, self.next_fetch_offset, MAX_RECORDS - num
            )
            if behind == at:  # not plain: aiokafka's own reader, which also moves ``next_fetch_offset``
                plain, behind = self._others(data[at:end]), end
            else:
                self.next_fetch_offset = offset
            at = behind
            if plain is not None:
                pieces.append(plain)
                num += len(plain)
                if num >= MAX_RECORDS:
                    yield from self._cut(pieces)
                    pieces, num = [], 0
        if pieces:
            yield from self._cut(pieces)

    def _cut(self, pieces: list[RecordColumns]) -> Iterator[RecordColumns]:
        """Hand on what was read; the position stands behind the piece that was taken last."""
        behind = self.next_fetch_offset
        whole = RecordColumns.joined(pieces)
        for piece in whole.cut(MAX_RECORDS):
            self.next_fetch_offset = behind if piece.end == whole.end else piece.end
            yield piece

    def _others(self, batch: bytes) -> RecordColumns | None:
        whole, self._records = self._records, MemoryRecords(batch)
        try:
            records = list(super()._unpack_records())
        finally:
            self._records = whole
        topic, partition = self._tp
        return RecordColumns.of(topic, partition, records) if records else None

    def _sound_until(self, data: bytes, at: int) -> int:
        """Index up to which the batches' checksums hold; everything where they are not to be checked."""
        if not self._check_crcs:
            return len(data)
        while (end := batch_end(data, at)) >= 0:
            if int.from_bytes(data[at + CRC_AT : at + CRC_FROM], "big") != calc_crc32c(data[at + CRC_FROM : end]):
                break
            at = end
        return at


def _with(method: Any, **others: Any) -> Any:
    """The same function with other names for some of what its module imports."""
    return FunctionType(
        method.__code__, {**vars(upstream), **others}, method.__name__, method.__defaults__, method.__closure__
    )


class ColumnFetcher(Fetcher):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's fetcher with columns. When ``is_held``, the next fetch waits for ``ask``.

    Held from the moment records are handed on: one that were sent then would bring only what came by then, and the
    next read would get that at once and leave behind what came since, from read to read.
    """

    holds = False
    is_held = False
    _proc_fetch_request = _with(
        Fetcher._proc_fetch_request, MemoryRecords=FetchedBytes, PartitionRecords=PartitionColumns
    )

    def _get_actions_per_node(self, assignment: Any) -> Any:
        requests, *others = super()._get_actions_per_node(assignment)
        return [] if self.is_held else requests, *others

    async def fetched_records(self, partitions: Any, timeout: float = 0, max_records: int | None = None) -> Any:
        """What was fetched, with no further fetch behind it."""
        found = await super().fetched_records(partitions, timeout, max_records)
        if found:
            self.is_held = self.holds
        return found

    def ask(self) -> None:
        """Let fetches go out until one has brought something."""
        if self.is_held:
            self.is_held = False
            self._notify(self._wait_consume_future)


def deliver_columns(consumer: Any, *, on_demand: bool = False) -> Callable[[], None]:
    """Exchange a started consumer's fetcher, before it subscribes. Raises InvariantError where aiokafka has changed.

    ``on_demand``: after each fetch the next one waits for a call of what is returned, so that it brings all that came
    meanwhile; without it the call does nothing.
    """
    fetcher = consumer._fetcher
    if type(fetcher) is not Fetcher or not all(hasattr(fetcher, name) for name in _NAMES):
        raise InvariantError("aiokafka's fetcher is not the one of 0.14.0, from which columns can be taken")
    fetcher.__class__ = ColumnFetcher
    fetcher.holds = on_demand
    ask: Callable[[], None] = fetcher.ask
    return ask

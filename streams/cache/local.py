"""The first level of the cache: a process's own answers, the least recently used go first, bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from streams.cache.values import Entry

ENTRY_BYTES: Final = 400
"""What an entry weighs beside its outputs."""


class LocalLevel:
    """Answers by key. An answer of an earlier epoch or another version has another key; it goes when its time comes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, field: bytes, oldest_us: int) -> Entry | None:
        """The answer that was filled after ``oldest_us``; an older one is dropped."""
        entry = self._entries.get(field)
        if entry is None:
            return None
        if entry.filled_us <= oldest_us:
            self._drop(field)
            return None
        self._entries.move_to_end(field)
        return entry

    def put(self, field: bytes, entry: Entry) -> None:
        """Keep an answer; one that does not fit into the level at all is not kept."""
        if field in self._entries:
            self._drop(field)
        weight = ENTRY_BYTES + entry.num_bytes
        if weight > self._max_bytes:
            return
        self._entries[field] = entry
        self.num_bytes += weight
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, field: bytes) -> None:
        self.num_bytes -= ENTRY_BYTES + self._entries.pop(field).num_bytes

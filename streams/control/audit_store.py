"""The writer of ``audit.log``: claims it, finds where the chain stands, appends behind it.

Each entry says how far intake and memory are recorded, so opening reads the end of the log and goes on behind it: a
record of either stands in the chain exactly once, whatever was killed in between, and no group's offsets matter.
Records of a spool have no offset; those, and ones that a writer sent twice, are known by operation and phase among the
last ``REMEMBERED``. Memory's own are known apart, by their time too: nobody's word stands in for them, and a memory
that was made anew counts from 1 again.

The chain is found from the newest head that our key signed, so what somebody else wrote at the end leads nowhere. A log
without such a head is followed from its first record on. After a failed write the store is opened anew.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.audit import AuditEntry, AuditHead, AuditRecord
from streams.audit_chain import LOG, MEMORY, OWN, AuditPoint, Draft, advance, drafted, headed, value_hash
from streams.control.journal import RecordCodec
from streams.errors import InvariantError, PoisonRecordError
from streams.memory_fold import void_reason
from streams.partition_log import LogRecord, LogWriter, PartitionLog
from streams.topics import full_name

log = logging.getLogger(__name__)

REMEMBERED: Final = 2_000
KEY: Final = b"ml-serving"
Name = tuple[str, str, str, int]
"""By what a record is known."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry of the log that can be read."""

    offset: int
    entry: AuditEntry
    value_hash: bytes


class AuditStore:
    """Sole writer of the audit log; one task at a time. ``is_ours``: whether a head is signed by our key."""

    def __init__(
        self,
        partitions: PartitionLog,
        codec: RecordCodec,
        is_ours: Callable[[AuditHead], bool],
        topic: str = full_name(LOG),
    ) -> None:
        self.point = AuditPoint()
        self.strangers = 0
        self._partitions = partitions
        self._codec = codec
        self._is_ours = is_ours
        self._topic = topic
        self._writer: LogWriter | None = None
        self._known: OrderedDict[Name, None] = OrderedDict()

    async def open(self) -> AuditPoint:
        """Claim, then read the end; returns where the chain stands. Raises RetriableError."""
        await self.stop()
        self._writer = await self._partitions.claim(self._topic, 0)
        begin, end = await self._partitions.bounds(self._topic, 0)
        reach = 2 * REMEMBERED
        while True:
            first = max(begin, end - reach)
            records = await self._partitions.read(self._topic, 0, first)
            stored = [each for record in records if (each := self._stored(record)) is not None]
            base = _newest_head(stored, self._is_ours)
            if base is not None or first == begin:
                self._follow(stored, base, len(records))
                return self.point
            reach *= 2

    async def append(self, drafts: Sequence[Draft], now_us: int) -> int:
        """Append what is not there yet, in order; returns how many. Raises RetriableError: then open anew."""
        point, entries = self.point, list[tuple[AuditEntry, bytes]]()
        named = set(self._known)
        for draft in drafts:
            name = _name(draft.origin, draft.record)
            if name not in named:
                named.add(name)
                entry = drafted(point, draft, now_us)
                entries.append((entry, self._codec.encode(LOG, entry)))
                point = advance(point, entry, value_hash(entries[-1][1]))
        await self._write(entries)
        return len(entries)

    async def sign(self, head: AuditHead) -> None:
        """Append a signed head of ``point``. Raises RetriableError: then open anew."""
        entry = headed(self.point, head)
        await self._write([(entry, self._codec.encode(LOG, entry))])

    async def stop(self) -> None:
        """Release the writer."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.stop()

    async def _write(self, entries: Sequence[tuple[AuditEntry, bytes]]) -> None:
        if self._writer is None:
            raise InvariantError("the audit store is not open")
        if entries:
            await self._writer.confirm(await self._writer.submit([(KEY, value, ()) for _, value in entries]))
        for entry, value in entries:
            self._enter(entry, value_hash(value))

    def _enter(self, entry: AuditEntry, hashed: bytes) -> None:
        self.point = advance(self.point, entry, hashed)
        self._remember(entry)

    def _remember(self, entry: AuditEntry) -> None:
        if entry.record is not None:
            self._known[_name(entry.origin, entry.record)] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def _stored(self, record: LogRecord) -> Stored | None:
        try:
            return Stored(record.offset, self._codec.decode(LOG, record.value), value_hash(record.value))
        except PoisonRecordError:
            return None

    def _follow(self, stored: Sequence[Stored], base: int | None, num_records: int) -> None:
        """Set the point behind the newest entry that follows, and remember what the chain holds."""
        self.point, self._known = AuditPoint(), OrderedDict()
        if base is None and stored and stored[0].entry.sequence > 1:
            base = 0  # retention took the beginning, and no head of this key is left
        earlier = [] if base is None else _chain_before(stored, base)
        for each in earlier:
            self._remember(each.entry)
        if base is not None:
            self.point = _point_at(stored[base])
        num_followed = len(earlier) + (base is not None)
        for each in stored[0 if base is None else base + 1 :]:
            if void_reason(self.point.head, each.entry) is None:
                self._enter(each.entry, each.value_hash)
                num_followed += 1
        self.strangers = num_records - num_followed
        if self.strangers:
            log.error(
                "%d records at the end of the audit log are not of its chain; `isos audit verify`", self.strangers
            )


def _name(origin: str, record: AuditRecord) -> Name:
    whose = origin if origin in (MEMORY, OWN) else ""
    return whose, record.operation_id, record.phase, record.timestamp_us if origin == MEMORY else 0


def _newest_head(stored: Sequence[Stored], is_ours: Callable[[AuditHead], bool]) -> int | None:
    """Index of the signed head with the highest sequence; the first of equal ones, for the others are copies."""
    found: int | None = None
    for index, each in enumerate(stored):
        head, entry = each.entry.head, each.entry
        if head is None or (head.sequence, head.hash) != (entry.sequence - 1, entry.prev_hash) or not is_ours(head):
            continue
        if found is None or entry.sequence > stored[found].entry.sequence:
            found = index
    return found


def _chain_before(stored: Sequence[Stored], base: int) -> list[Stored]:
    """The entries that lead to ``base`` by hash, oldest first."""
    by_hash = {each.value_hash: each for each in stored[:base]}
    found: list[Stored] = []
    at = by_hash.get(stored[base].entry.prev_hash)
    while at is not None:
        found.append(at)
        at = by_hash.get(at.entry.prev_hash)
    return found[::-1]


def _point_at(stored: Stored) -> AuditPoint:
    """The point right behind a stored entry."""
    entry = stored.entry
    before = AuditPoint(
        entry.sequence - 1, entry.prev_hash, entry.prev_time_us, entry.intake_offset, entry.memory_offset
    )
    return advance(before, entry, stored.value_hash)

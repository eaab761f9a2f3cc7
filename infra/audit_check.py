"""Reads ``audit.log`` for ``streams.audit_check``, with the keys of its signer from memory; and its entries, to list.

The order of reading matters, for the logs go on meanwhile: the keys first, then the audit log, then what it signs for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition

from schemas.audit import AuditEntry
from streams.audit_chain import LOG, memory_anchor, signs_before
from streams.audit_check import AuditCheck, AuditReport
from streams.audit_facts import EventFold
from streams.codec import Codec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.link_check import Anchor
from streams.log_scan import LogScan
from streams.marker_fetch import Marker
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name

EVENTS: Final = "memory.events"
LOG_PLACE: Final = TopicPartition(full_name(LOG), 0)
EVENTS_PLACE: Final = TopicPartition(full_name(EVENTS), 0)

REACH: Final = 1_000
"""Offsets in which a signed head is looked for; one comes after at most 200 entries."""
Progress = Callable[[str, int, int], None]
OnEntry = Callable[[int, AuditEntry], None]


async def check_audit(
    connection: Connection, anchors: Sequence[Anchor], now_us: int, progress: Progress
) -> tuple[AuditReport, tuple[str, ...]]:
    """Check the audit log as of now; with the keys that memory has for it. Raises RetriableError."""
    codec = Codec(await read_schema_ids(connection))
    async with LogScan(connection, markers=True) as scan:
        keys = await public_keys(scan, codec)
        first, end = await scan.bounds(LOG_PLACE)
        check = AuditCheck(partial(codec.decode, LOG), keys, first, anchors)
        await _scan(scan, check, first, end, progress)
        return check.report(end, now_us), tuple(keys)


async def read_entries(connection: Connection, since_us: int, on_entry: OnEntry, progress: Progress) -> None:
    """Hand over the entries of the chain since a time, oldest first. Raises RetriableError."""
    codec = Codec(await read_schema_ids(connection))
    async with LogScan(connection) as scan:
        first, end = await scan.bounds(LOG_PLACE)
        since = first
        if since_us:
            found = await scan.at_time(LOG_PLACE, since_us // 1000)
            since = end if found is None else max(first, found)
            first = await _head_before(scan, codec, first, since)

        def hand_over(offset: int, entry: AuditEntry) -> None:
            if offset >= since:
                on_entry(offset, entry)

        check = AuditCheck(partial(codec.decode, LOG), (), first, on_entry=hand_over)
        await _scan(scan, check, first, end, progress)


async def _head_before(scan: LogScan, codec: Codec, first: int, since: int) -> int:
    """Offset of a signed head before ``since``, from where the chain can be followed; ``first`` where none is near.

    Any other entry may be a stranger's. Raises RetriableError.
    """
    reach = max(first, since - REACH)
    if reach == first:
        return first
    keys = await public_keys(scan, codec)
    best: tuple[int, int] | None = None

    def take(record: Any) -> bool:
        nonlocal best
        try:
            entry = codec.decode(LOG, record.value)
        except PoisonRecordError:
            return True
        if signs_before(entry, keys) and (best is None or entry.sequence > best[0]):  # equal ones are copies
            best = entry.sequence, record.offset
        return True

    await scan.scan(LOG_PLACE, reach, since, take)
    return first if best is None else best[1]


async def signed_memory_heads(connection: Connection) -> tuple[Anchor, ...]:
    """The heads of memory that the audit log signs for, oldest first. Raises RetriableError."""
    codec = Codec(await read_schema_ids(connection))
    found: list[Anchor] = []
    async with LogScan(connection) as scan:
        keys = await public_keys(scan, codec)
        first, end = await scan.bounds(LOG_PLACE)

        def take(record: Any) -> bool:
            try:
                anchor = memory_anchor(codec.decode(LOG, record.value), keys)
            except PoisonRecordError:
                return True
            if anchor is not None and anchor not in found[-1:]:
                found.append(anchor)
            return True

        await scan.scan(LOG_PLACE, first, end, take)
    return tuple(found)


async def public_keys(scan: LogScan, codec: Codec) -> list[str]:
    """Every public key that memory ever had for the signer of the audit log. Raises RetriableError."""
    first, end = await scan.bounds(EVENTS_PLACE)
    fold = EventFold(partial(codec.decode, EVENTS))  # by the chain: anybody's record may have that key

    def take(record: Any) -> bool:
        if not isinstance(record, Marker):
            fold.learn(record.value)
        return True

    await scan.scan(EVENTS_PLACE, first, end, take)
    return fold.public_keys


async def _scan(scan: LogScan, check: AuditCheck, first: int, end: int, progress: Progress) -> None:
    def take(record: Any) -> bool:
        if isinstance(record, Marker):
            check.marker(record.offset)
        else:
            check.record(record.offset, record.value)
        return True

    await scan.scan(LOG_PLACE, first, end, take, lambda reached: progress(LOG, reached - first, end - first))

"""Reads the two topics of memory for ``streams.chain_check``: the events with their markers, then the newest states.

Memory may change meanwhile: what differs in ``memory.state`` counts only when a second look finds the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition

from streams.chain_check import EVENTS, STATE, ChainCheck, Report, StateRecord
from streams.codec import Codec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.link_check import Anchor
from streams.log_scan import LogScan, Step
from streams.marker_fetch import Marker
from streams.memory_view import MemoryHead
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name

Progress = Callable[[str, int, int], None]
EVENTS_PLACE: Final = TopicPartition(full_name(EVENTS), 0)
STATE_PLACE: Final = TopicPartition(full_name(STATE), 0)


async def check_memory(
    connection: Connection, noted: MemoryHead | None, progress: Progress, signed: Sequence[Anchor] = ()
) -> Report:
    """Check memory as of now, with ``signed`` heads that were read before. Raises RetriableError."""
    codec = Codec(await read_schema_ids(connection))
    anchors = [*([] if noted is None else [Anchor(noted)]), *signed]
    first = await look(connection, codec, anchors, progress)
    if not any(fault.topic == STATE for fault in first.faults):
        return first
    return settled(first, await look(connection, codec, anchors, progress))


def settled(first: Report, second: Report) -> Report:
    """The second report, without differences in ``memory.state`` that the first did not have."""
    faults = tuple(fault for fault in second.faults if fault.topic == EVENTS or fault in first.faults)
    return dataclasses.replace(second, faults=faults)


async def look(connection: Connection, codec: Codec, anchors: Sequence[Anchor], progress: Progress) -> Report:
    """Read both topics once, events first: an event stands before the state that it makes."""
    async with LogScan(connection, markers=True) as scan:
        first, end = await scan.bounds(EVENTS_PLACE)
        check = ChainCheck(partial(codec.decode, EVENTS), first, anchors)

        def take(record: Any) -> bool:
            if isinstance(record, Marker):
                check.marker(record.offset)
            else:
                check.record(record.offset, record.value)
            return True

        await scan.scan(EVENTS_PLACE, first, end, take, _step(progress, EVENTS, first, end))
        return check.report(end, await _states(scan, codec, progress))


async def _states(scan: LogScan, codec: Codec, progress: Progress) -> dict[str, StateRecord]:
    first, end = await scan.bounds(STATE_PLACE)
    states: dict[str, StateRecord] = {}

    def take(record: Any) -> bool:
        if not isinstance(record, Marker):
            states[(record.key or b"").decode(errors="replace")] = state_record(codec, record.offset, record.value)
        return True

    await scan.scan(STATE_PLACE, first, end, take, _step(progress, STATE, first, end))
    return states


def state_record(codec: Codec, offset: int, value: bytes | None) -> StateRecord:
    """What a record of ``memory.state`` says of its key."""
    if value is None:
        return StateRecord(offset, None)
    try:
        return StateRecord(offset, codec.decode(STATE, value))
    except PoisonRecordError as error:
        return StateRecord(offset, None, error.message)


def _step(progress: Progress, what: str, first: int, end: int) -> Step:
    return lambda reached: progress(what, reached - first, end - first)

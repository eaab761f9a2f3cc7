"""Routing decided once more: the noted decisions of Routers, each with memory as it stood at its sequence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from agents.routing_replay import Difference, differs
from infra.log_reader import LogReader, TypedRecord
from schemas.frame import InferenceFrame
from streams.codec import Codec
from streams.connection import Connection
from streams.decision_notes import ADMITTED, TOPIC
from streams.errors import PoisonRecordError
from streams.frame_check import checked
from streams.memory_fold import StoredEvent, extend
from streams.memory_view import MemoryView
from streams.provision import topic_partitions
from streams.registry.schema_log import read_schema_ids

NAME: Final = "router"


@dataclass(frozen=True, slots=True)
class Rerouted:
    """What came of it: decisions compared, those of memory that is not there, the first that differs and its offset.

    ``broken``: notes whose frame cannot be read, by offset and why.
    """

    num_decisions: int
    num_rows: int
    num_passed: int
    num_differences: int
    first: tuple[int, Difference] | None
    broken: tuple[tuple[int, str], ...]
    seconds: float


async def reroute(connection: Connection, since_ms: int | None) -> Rerouted | None:
    """Derive every decision again that was noted from a time on; None where there is no such topic.

    Raises RetriableError when the broker is away.
    """
    begun = time.monotonic()
    if TOPIC not in await topic_partitions(connection, [TOPIC]):
        return None
    codec = Codec(await read_schema_ids(connection))
    reader = LogReader(connection, codec)
    events = await reader.memory_events()
    noted = [each for each in await reader.read(TOPIC) if since_ms is None or each.timestamp_ms >= since_ms]
    return rerouted(noted, events, codec, begun)


def rerouted(noted: list[TypedRecord], events: list[StoredEvent], codec: Codec, begun: float) -> Rerouted:
    """Compare notes in the order of their memory sequences, so that memory is folded once."""
    view, at = MemoryView(), 0
    rows = passed = num_differences = 0
    first: tuple[int, Difference] | None = None
    broken: list[tuple[int, str]] = []
    for each in sorted(noted, key=lambda each: (each.record.memory_sequence, each.offset)):
        wanted = each.record.memory_sequence
        if wanted > len(events):
            passed += 1
            continue
        if wanted > at:
            view, at = extend(view, events[at:wanted])[0], wanted
        try:
            frame: InferenceFrame = checked(codec.decode(ADMITTED, each.record.frame))
        except PoisonRecordError as error:
            broken.append((each.offset, error.message))
            continue
        rows += len(frame.statuses)
        found = differs(each.record, frame, view)
        if found is not None:
            num_differences += 1
            if first is None or each.offset < first[0]:
                first = each.offset, found
    compared = len(noted) - passed - len(broken)
    return Rerouted(compared, rows, passed, num_differences, first, tuple(broken), time.monotonic() - begun)


def row(found: Rerouted | None) -> dict[str, Any]:
    """The outcome in the columns of ``isos replay``; ``notes`` are sentences."""
    found = found or Rerouted(0, 0, 0, 0, None, (), 0.0)
    first = found.first
    differences = found.num_differences + len(found.broken)
    return {
        "agent": NAME,
        "from_sequence": 0,
        "entries": found.num_decisions,
        "snapshots": 0,
        "differences": differences,
        "first_difference": None
        if not differences
        else min([*(at for at, _ in found.broken), *([first[0]] if first else [])]),
        "records_per_s": round(found.num_decisions / max(found.seconds, 1e-6)),
        "seconds": round(found.seconds, 3),
        "passed_over": found.num_passed,
        "difference": None if first is None else {"offset": first[0], "what": first[1].what},
        "notes": notes(found),
    }


def notes(found: Rerouted) -> list[str]:
    """What a person should know beside the counts."""
    said: list[str] = []
    if found.first is not None:
        offset, difference = found.first
        noted = difference.decision
        said.append(
            f"router: it routes otherwise today at offset {offset} (frame {noted.frame_id} of partition "
            f"{noted.partition}, memory {noted.memory_sequence}): {difference.what}."
        )
    said += [f"router: the note at offset {offset} cannot be read: {why}." for offset, why in found.broken[:3]]
    if found.num_passed:
        said.append(f"router: {found.num_passed} decisions were taken by a memory that is not there: passed over.")
    if not found.num_decisions and not said:
        said.append("router: no decision was noted; the setting decision_sample says how many are.")
    return said

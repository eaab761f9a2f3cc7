"""Journals for tests of replay and backtest: an agent that adds numbers, and entries as records with offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.journal import JournalEntry
from streams.agent import AgentSpec
from streams.canonical import from_json, to_json
from streams.control.journal import Input, JournaledAgent, RecordCodec
from streams.control.replay import JOURNAL, Difference, Replay
from streams.errors import PoisonRecordError

Record = tuple[int, bytes | None]


class PlainCodec:
    """Decimal numbers on every topic but the journal, whose entries are canonical JSON."""

    def encode(self, topic: str, record: Any) -> bytes:
        return (to_json(record) if topic == JOURNAL else str(record)).encode()

    def decode(self, topic: str, value: bytes | None) -> Any:
        if topic == JOURNAL:
            return from_json(JournalEntry, (value or b"").decode("utf-8", "replace"))
        if value is None or not value.isdigit():
            raise PoisonRecordError("garbage", "no number")
        return int(value)


PLAIN = PlainCodec()


def written(
    spec: AgentSpec, inputs: Sequence[tuple[Input, int]], codec: RecordCodec = PLAIN, take_over_at: Sequence[int] = ()
) -> list[JournalEntry]:
    """The journal of an agent that got ``inputs`` at their times, and was taken over before those numbered so."""
    agent, entries = JournaledAgent(spec, codec), []
    for at, (given, now_us) in enumerate(inputs):
        if at in take_over_at and agent.sequence:
            entries.append(agent.snapshot())
        entry = agent.step(given, now_us)
        if entry is not None:
            entries.append(entry)
        if agent.snapshot_due():
            entries.append(agent.snapshot())
    return entries


def as_records(entries: Sequence[JournalEntry], codec: RecordCodec = PLAIN) -> list[Record]:
    """Entries as they stand in a partition: every other offset, as if markers lay between."""
    return [(2 * at, codec.encode(JOURNAL, entry)) for at, entry in enumerate(entries)]


def replayed(spec: AgentSpec, records: Sequence[Record], codec: RecordCodec = PLAIN) -> tuple[Replay, list[Difference]]:
    """A replay over all of them, and everything that it named."""
    replay = Replay(spec, codec)
    found = [each for offset, value in records if (each := replay.take(offset, value)) is not None]
    last = replay.end()
    return replay, found if last is None else [*found, last]

"""What a control agent writes before it acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JournalEffect:
    """An effect as it will be sent: topic (short name), partition (-1 = by key), key, value (None = tombstone)."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One step of ``decide``: its input and effects.

    ``kind`` is record, tick or snapshot. ``input_topic/partition/offset`` name the input record (empty and -1 for a
    tick), ``input_value`` its bytes (or, for a snapshot, the state as JSON), ``effect_source`` the effect id the input
    carried (agent/seq/index or empty). ``state_digest`` is SHA-256 of the state after the step where it was computed
    (each 1,000th step and snapshots), else empty.
    """

    agent: str
    sequence: int
    time_us: int
    kind: str
    input_topic: str
    input_partition: int
    input_offset: int
    input_key: bytes
    input_value: bytes | None
    effect_source: str
    effects: tuple[JournalEffect, ...]
    state_digest: bytes

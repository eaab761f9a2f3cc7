"""Memory: commands to the Orchestrator, the events it alone appends, and the compacted state per key."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.coordinate import RecordCoordinate


@dataclass(frozen=True, slots=True)
class MemoryCommand:
    """A proposed change. ``kind`` is one of ``agents.orchestrator.COMMANDS``; ``body`` is canonical JSON.

    ``expected_version`` is the key's version the proposer saw (0 = the key is new, -1 = any). ``author``: the person
    who wants it, with a ``signature`` of the rest where the environment asks for one.
    """

    command_id: str
    agent: str
    kind: str
    key: str
    expected_version: int
    body: str
    reason: str
    causes: tuple[RecordCoordinate, ...]
    sent_us: int
    author: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class MemoryEvent:
    """One accepted change.

    ``sequence`` starts at 1 and is dense; ``prev_hash`` is the SHA-256 of the previous event's
    record value as stored (32 zero bytes for the first); ``version`` counts changes of ``key``.
    ``body`` None = removed.
    """

    sequence: int
    prev_hash: bytes
    command_id: str
    agent: str
    kind: str
    key: str
    version: int
    body: str | None
    reason: str
    causes: tuple[RecordCoordinate, ...]
    time_us: int


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """Value of a key in ``memory.state`` (record key = memory key) as of event ``sequence``."""

    key: str
    version: int
    sequence: int
    body: str
    time_us: int

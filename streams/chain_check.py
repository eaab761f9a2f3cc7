"""Whether ``memory.events`` is what its one writer wrote, and whether ``memory.state`` says the same. Pure.

The chain, the offsets and known heads are looked at by ``streams.link_check``; here the events are folded beside it. An
event that readers refuse also counts as the writer's own where ``memory.state`` holds what it says.

The end of a log has no successor that names it: a change of the last record, or its loss, shows by ``memory.state``
until the Orchestrator starts and rewrites that, and for good by a head that was noted elsewhere or that the
Orchestrator signed (``streams.audit_chain``: the audit log holds a signed head of memory at least each minute).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.memory import MemoryEntry, MemoryEvent
from streams.link_check import NOWHERE, Anchor, Finding, LinkCheck, Refused
from streams.memory_fold import entry_of
from streams.memory_view import MemoryHead

EVENTS: Final = "memory.events"
STATE: Final = "memory.state"

Decode = Callable[[bytes | None], MemoryEvent]
"""An event of a record's value; raises PoisonRecordError."""


@dataclass(frozen=True, slots=True)
class StateRecord:
    """The newest record of a key in ``memory.state``; no ``entry``: a tombstone, or unreadable (``problem``)."""

    offset: int
    entry: MemoryEntry | None
    problem: str = ""


States = Mapping[str, StateRecord]


@dataclass(frozen=True, slots=True)
class Report:
    """``head``: the last accepted event and ``head_offset`` its offset (-1: none); ``faults``: the first bad one first.

    ``voids``: records that readers refuse and that are none of the chain's own. ``signed``: the last sequence whose
    hash is one that the Orchestrator signed; 0 when there is none.
    """

    head: MemoryHead
    head_offset: int
    end: int
    num_records: int
    num_markers: int
    num_keys: int
    faults: tuple[Finding, ...]
    voids: tuple[Finding, ...]
    signed: int = 0


class ChainCheck(LinkCheck[MemoryEvent]):
    """Takes the records and markers of the log in the order of their offsets; ``first``: the log's first offset."""

    def __init__(self, decode: Decode, first: int = 0, anchors: Iterable[Anchor] = ()) -> None:
        super().__init__(EVENTS, decode, first, anchors)
        self._entries: dict[str, MemoryEntry] = {}
        self._states: States = {}
        if first:
            self.holes.append(Finding(EVENTS, first, 0, f"the log begins here; what stood on 0 to {first - 1} is gone"))

    def report(self, end: int, states: States) -> Report:
        """Close the check; ``end``: the offset behind the log, ``states``: the newest record per key."""
        self._states = states
        first, is_broken = self.close(end)
        faults = [*([] if first is None else [first]), *self.holes, *([] if is_broken else self._state_faults(states))]
        return Report(
            head=self.head,
            head_offset=self.head_offset,
            end=end,
            num_records=self.num_records,
            num_markers=self.num_markers,
            num_keys=len(self._entries),
            faults=tuple(faults),
            voids=self.voids(faults),
            signed=self.signed,
        )

    def _accept(self, offset: int, link: MemoryEvent) -> None:
        if link.body is None:
            self._entries.pop(link.key, None)
        else:
            self._entries[link.key] = entry_of(link, link.body)

    def _stands(self, refused: Refused[MemoryEvent]) -> bool:
        """Whether ``memory.state`` is as this event would have left it."""
        event = refused.link
        state = None if event is None else self._states.get(event.key)
        if event is None or event.body is None:
            return refused.offset > self.head_offset and (state is None or (state.entry is None and not state.problem))
        return state is not None and state.entry == entry_of(event, event.body)

    def _state_faults(self, states: States) -> list[Finding]:
        found: list[Finding] = []
        for key in sorted({*states, *self._entries}):
            state, entry = states.get(key), self._entries.get(key)
            standing = None if state is None else state.entry
            if standing == entry and not (state is not None and state.problem):
                continue
            sequence = entry.sequence if entry is not None else standing.sequence if standing is not None else 0
            what = f"{key}: {_said(state)}, and the events say {_version(entry)}"
            found.append(Finding(STATE, NOWHERE if state is None else state.offset, sequence, what))
        return found


def _said(state: StateRecord | None) -> str:
    if state is not None and state.problem:
        return f"memory.state cannot be read here ({state.problem})"
    return f"memory.state says {_version(None if state is None else state.entry)}"


def _version(entry: MemoryEntry | None) -> str:
    if entry is None:
        return "that it is not there"
    body = hashlib.sha256(entry.body.encode()).hexdigest()[:8]
    return f"version {entry.version} of sequence {entry.sequence} (body {body})"

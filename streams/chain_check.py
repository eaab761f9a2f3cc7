"""Whether ``memory.events`` is what its one writer wrote: the chain, the offsets, and ``memory.state`` beside it. Pure.

Records go in by offset, a report comes out. Readers accept an event that follows the last accepted one and pass over
everything else (``streams.memory_view``). Here it is told apart why a record was passed over: somebody else wrote it
(*void*, it changes nothing and the chain goes on), or a record of the chain was changed, removed or moved (a *fault*).

An event ahead of the accepted chain is taken for the writer's own when a neighbour in the log names it or is named by
it by hash, when ``memory.state`` holds what it says, or when it is the noted head. Where there is one, the chain is
broken, and the first bad record is looked for between the last accepted one and it.

What this cannot tell: the chain is not signed, so whoever knows the last hash can write an event that follows. And the
end of a log has no successor that names it: a change of the last record, or its loss, shows by ``memory.state`` only
until the Orchestrator starts and rewrites that, and for good by a head that was noted elsewhere.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.memory import MemoryEntry, MemoryEvent
from streams.errors import PoisonRecordError
from streams.memory_view import ZERO_HASH, MemoryHead, entry_of, void_reason

EVENTS: Final = "memory.events"
STATE: Final = "memory.state"
NOWHERE: Final = -1
"""Offset of a finding about a key that has no record."""

Decode = Callable[[bytes | None], MemoryEvent]
"""An event of a record's value; raises PoisonRecordError."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A place (partition 0 of ``topic``, a short name) and what is wrong there; ``sequence`` 0 where none is known."""

    topic: str
    offset: int
    sequence: int
    what: str


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

    ``voids``: records that readers refuse and that are none of the chain's own.
    """

    head: MemoryHead
    head_offset: int
    end: int
    num_records: int
    num_markers: int
    num_keys: int
    faults: tuple[Finding, ...]
    voids: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Refused:
    """A record that does not follow; ``sequence`` 0 and no key when it cannot be read."""

    offset: int
    sequence: int
    prev_hash: bytes
    value_hash: bytes
    key: str
    entry: MemoryEntry | None
    why: str


def head_text(head: MemoryHead) -> str:
    """``SEQUENCE:HASH``, as it is noted and given again."""
    return f"{head.sequence}:{head.last_hash.hex()}"


def parse_head(text: str) -> MemoryHead:
    """Read what ``head_text`` wrote. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text.strip().lower())
    if found is None:
        raise ValueError("a head is SEQUENCE:HASH, with 64 hexadecimal digits")
    return MemoryHead(int(found[1]), bytes.fromhex(found[2]))


class ChainCheck:
    """Takes the records and markers of the log in the order of their offsets; ``first``: the log's first offset."""

    def __init__(self, decode: Decode, first: int = 0, noted: MemoryHead | None = None) -> None:
        self._decode = decode
        self._first = self._next = first
        self._noted = noted
        self._noted_hash = b""
        self._head = MemoryHead()
        self._offsets: list[int] = []
        self._entries: dict[str, MemoryEntry] = {}
        self._refused: list[_Refused] = []
        self._holes: list[Finding] = []
        self._num_records = self._num_markers = 0
        if first:
            self._holes.append(
                Finding(EVENTS, first, 0, f"the log begins here; what stood on 0 to {first - 1} is gone")
            )

    def marker(self, offset: int) -> None:
        """Take the offset of a transaction marker."""
        self._reach(offset)
        self._num_markers += 1

    def record(self, offset: int, value: bytes | None) -> None:
        """Take a record."""
        self._reach(offset)
        self._num_records += 1
        value_hash = hashlib.sha256(value or b"").digest()
        try:
            event = self._decode(value)
        except PoisonRecordError as error:
            self._refused.append(_Refused(offset, 0, b"", value_hash, "", None, f"it cannot be read: {error.message}"))
            return
        why = void_reason(self._head, event)
        entry = None if event.body is None else entry_of(event, event.body)
        if why is not None:
            self._refused.append(
                _Refused(offset, event.sequence, event.prev_hash, value_hash, event.key, entry, f"its {why}")
            )
            return
        self._head = MemoryHead(event.sequence, value_hash)
        self._offsets.append(offset)
        if entry is None:
            self._entries.pop(event.key, None)
        else:
            self._entries[event.key] = entry
        if self._noted is not None and self._noted.sequence == event.sequence:
            self._noted_hash = value_hash

    def report(self, end: int, states: States) -> Report:
        """Close the check; ``end``: the offset behind the log, ``states``: the newest record per key."""
        self._empty_before(end)
        own = self._own(states)
        broken = self._break(own) if own else self._noted_fault()
        faults = [*([] if broken is None else [broken]), *self._holes, *([] if own else self._state_faults(states))]
        of_chain = {each.offset for each in own} | {each.offset for each in faults if each.topic == EVENTS}
        voids = [each for each in self._refused if each.offset not in of_chain]
        return Report(
            head=self._head,
            head_offset=self._last,
            end=end,
            num_records=self._num_records,
            num_markers=self._num_markers,
            num_keys=len(self._entries),
            faults=tuple(faults),
            voids=tuple(Finding(EVENTS, each.offset, each.sequence, each.why) for each in voids),
        )

    @property
    def _last(self) -> int:
        return self._offsets[-1] if self._offsets else NOWHERE

    def _reach(self, offset: int) -> None:
        self._empty_before(offset)
        self._next = max(self._next, offset + 1)

    def _empty_before(self, offset: int) -> None:
        """Note what stands between the last offset that was seen and this one: nothing, or a hole."""
        if offset > self._next:
            what = f"offsets {self._next} to {offset - 1} hold neither a record nor a transaction marker"
            self._holes.append(Finding(EVENTS, self._next, 0, what))

    def _own(self, states: States) -> list[_Refused]:
        """Refused events ahead of the accepted chain that its writer wrote, in the order of the log."""
        ahead = [each for each in self._refused if each.sequence > self._head.sequence]
        sequences = {each.value_hash: each.sequence for each in ahead}
        if self._head.sequence:
            sequences[self._head.last_hash] = self._head.sequence
        named = {(each.prev_hash, each.sequence - 1) for each in ahead}
        return [
            each
            for each in ahead
            if sequences.get(each.prev_hash) == each.sequence - 1
            or (each.value_hash, each.sequence) in named
            or self._noted == MemoryHead(each.sequence, each.value_hash)
            or self._stands(each, states)
        ]

    def _stands(self, refused: _Refused, states: States) -> bool:
        """Whether ``memory.state`` is as this event would have left it."""
        state = states.get(refused.key)
        if refused.entry is None:
            return refused.offset > self._last and (state is None or (state.entry is None and not state.problem))
        return state is not None and state.entry == refused.entry

    def _break(self, own: Sequence[_Refused]) -> Finding:
        """The first bad record, given the events behind the break."""
        head, next_own = self._head, own[0]
        expected = bisect.bisect_left(self._offsets, next_own.offset) + 1
        if expected <= head.sequence:
            what = f"sequence {next_own.sequence} stands before {expected}, which is at offset"
            return self._at(
                next_own, next_own.sequence, f"{what} {self._offsets[expected - 1]}: records were exchanged"
            )
        if next_own.sequence == expected:
            return self._wrong_link(next_own)
        if next_own.prev_hash == head.last_hash:
            what = f"it calls itself sequence {next_own.sequence} but names sequence {head.sequence} before it"
            return self._at(next_own, expected, f"{what}: it was changed")
        likely = self._likely(next_own.offset)
        if likely is not None:
            return self._at(likely, expected, f"it should be sequence {expected} and was changed: {likely.why}")
        what = f"sequence {expected} is missing; sequence {next_own.sequence} comes next, at offset {next_own.offset}"
        return Finding(EVENTS, self._behind, expected, what)

    def _wrong_link(self, next_own: _Refused) -> Finding:
        """The next sequence is there but names another hash: either it was changed or the record before it."""
        named = any(each.prev_hash == next_own.value_hash for each in self._refused)
        followed = any(each.sequence == next_own.sequence + 1 for each in self._refused)
        noted = self._noted or MemoryHead()
        is_other = noted.sequence == next_own.sequence and noted.last_hash != next_own.value_hash
        if self._head.sequence == 0 or (followed and not named) or is_other or noted == self._head:
            return self._at(next_own, next_own.sequence, f"it was changed: {next_own.why}")
        what = f"the record behind it, at offset {next_own.offset}, names another hash: this one was changed"
        return Finding(EVENTS, self._last, self._head.sequence, what)

    def _likely(self, before: int) -> _Refused | None:
        """Of what stands behind the last accepted event: the record that was probably the next one."""
        between = [each for each in self._refused if self._last < each.offset < before]
        expected, last_hash = self._head.sequence + 1, self._head.last_hash
        by_sequence = next((each for each in between if each.sequence == expected), None)
        by_hash = next((each for each in between if each.sequence and each.prev_hash == last_hash), None)
        return by_sequence or by_hash or (between[-1] if between else None)

    @property
    def _behind(self) -> int:
        """The place right behind the last accepted event."""
        return self._last + 1 if self._offsets else self._first

    def _noted_fault(self) -> Finding | None:
        """What is wrong with the noted head where the log itself shows nothing."""
        noted, head = self._noted, self._head
        if noted is None or noted in (head, MemoryHead(noted.sequence, self._noted_hash)):
            return None
        if noted.sequence == 0:
            return None if noted.last_hash == ZERO_HASH else Finding(EVENTS, NOWHERE, 0, "no head has sequence 0")
        if noted.sequence <= head.sequence:
            what = "its hash is not the noted one: it was changed, or one before it and all since were written anew"
            return Finding(EVENTS, self._offsets[noted.sequence - 1], noted.sequence, what)
        likely = self._likely(self._next)
        if likely is not None:
            return self._at(likely, head.sequence + 1, f"the noted head is {noted.sequence}, and here {likely.why}")
        what = f"the log ends at sequence {head.sequence}, and the noted head is {noted.sequence}: its end was cut off"
        return Finding(EVENTS, self._behind, head.sequence + 1, what)

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

    def _at(self, refused: _Refused, sequence: int, what: str) -> Finding:
        return Finding(EVENTS, refused.offset, sequence, what)


def _said(state: StateRecord | None) -> str:
    if state is not None and state.problem:
        return f"memory.state cannot be read here ({state.problem})"
    return f"memory.state says {_version(None if state is None else state.entry)}"


def _version(entry: MemoryEntry | None) -> str:
    if entry is None:
        return "that it is not there"
    body = hashlib.sha256(entry.body.encode()).hexdigest()[:8]
    return f"version {entry.version} of sequence {entry.sequence} (body {body})"

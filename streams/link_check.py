"""Whether a hash-chained log is what its one writer wrote: links, offsets, and heads known from elsewhere. Pure.

Records go in by offset. Readers accept a record that follows the last accepted one (the next sequence, and its
``prev_hash`` the SHA-256 of that one's value as stored) and pass over everything else. Here it is told apart why a
record was passed over: somebody else wrote it (*void*, it changes nothing and the chain goes on), or a record of the
chain was changed, removed or moved (a *fault*).

A record ahead of the accepted chain is taken for the writer's own when a neighbour in the log names it or is named by
it by hash, or when it is an anchor: a head that was noted or signed. Where there is one, the chain is broken, and the
first bad record is looked for between the last accepted one and it. The end of a log has no successor that names it:
there only anchors tell.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from streams.errors import PoisonRecordError
from streams.memory_fold import Linked, void_reason
from streams.memory_view import ZERO_HASH, MemoryHead

NOTED: Final = "noted"
SIGNED: Final = "signed"
NOWHERE: Final = -1
"""Offset of a finding about what has no record."""


L = TypeVar("L", bound=Linked)


@dataclass(frozen=True, slots=True)
class Finding:
    """A place (partition 0 of ``topic``, a short name) and what is wrong there; ``sequence`` 0 where none is known."""

    topic: str
    offset: int
    sequence: int
    what: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that is known from elsewhere; ``said``: noted (by a person) or signed."""

    head: MemoryHead
    said: Literal["noted", "signed"] = NOTED


@dataclass(frozen=True, slots=True)
class Refused(Generic[L]):
    """A record that does not follow; no ``link`` when it cannot be read."""

    offset: int
    value_hash: bytes
    link: L | None
    why: str

    @property
    def sequence(self) -> int:
        """Its sequence; 0 when it cannot be read."""
        return 0 if self.link is None else self.link.sequence

    @property
    def prev_hash(self) -> bytes:
        """The hash that it names."""
        return b"" if self.link is None else self.link.prev_hash


def head_text(head: MemoryHead) -> str:
    """``SEQUENCE:HASH``, as it is noted and given again."""
    return f"{head.sequence}:{head.last_hash.hex()}"


def parse_head(text: str) -> MemoryHead:
    """Read what ``head_text`` wrote. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text.strip().lower())
    if found is None:
        raise ValueError("a head is SEQUENCE:HASH, with 64 hexadecimal digits")
    return MemoryHead(int(found[1]), bytes.fromhex(found[2]))


class LinkCheck(Generic[L]):
    """Takes the records and markers of ``topic`` in the order of their offsets; ``first``: the log's first offset.

    ``decode`` raises PoisonRecordError on what cannot be read.
    """

    def __init__(
        self, topic: str, decode: Callable[[bytes | None], L], first: int = 0, anchors: Iterable[Anchor] = ()
    ) -> None:
        self.topic = topic
        self.head = MemoryHead()
        self.num_records = self.num_markers = 0
        self.holes: list[Finding] = []
        self._decode = decode
        self._first = self._next = first
        self._offsets: list[int] = []
        self._before = 0
        self._refused: list[Refused[L]] = []
        self._own: list[Refused[L]] = []
        self._anchors: dict[int, list[Anchor]] = {}
        self._missed: list[Anchor] = []
        self._sure = self._signed = 0
        for anchor in anchors:
            self.anchor(anchor)

    def anchor(self, anchor: Anchor) -> None:
        """Take a head that is known from elsewhere, before the record that it names."""
        self._anchors.setdefault(anchor.head.sequence, []).append(anchor)

    def marker(self, offset: int) -> None:
        """Take the offset of a transaction marker."""
        self._reach(offset)
        self.num_markers += 1

    def record(self, offset: int, value: bytes | None) -> None:
        """Take a record."""
        self._reach(offset)
        self.num_records += 1
        value_hash = hashlib.sha256(value or b"").digest()
        try:
            link = self._decode(value)
        except PoisonRecordError as error:
            self._refused.append(Refused(offset, value_hash, None, f"it cannot be read: {error.message}"))
            return
        why = void_reason(self.head, link)
        if why is not None:
            self._refused.append(Refused(offset, value_hash, link, f"its {why}"))
            return
        self._offsets.append(offset)
        self._accept(offset, link)
        self.head = MemoryHead(link.sequence, value_hash)
        for each in self._anchors.get(link.sequence, ()):
            if each.head != self.head:
                self._missed.append(each)
            elif not self._missed:
                self._sure = link.sequence
                self._signed = link.sequence if each.said == SIGNED else self._signed

    def begin_behind(self, head: MemoryHead) -> None:
        """Begin at a later point: what stood before is gone, as retention may have it."""
        self.head, self._before = head, head.sequence

    @property
    def signed(self) -> int:
        """The last sequence whose hash is a signed head's; 0 when there is none."""
        return self._signed

    @property
    def head_offset(self) -> int:
        """Offset of the last accepted record."""
        return self._offsets[-1] if self._offsets else NOWHERE

    def close(self, end: int) -> tuple[Finding | None, bool]:
        """Close the log at ``end``: the first bad record if the chain is broken, and whether it is."""
        self._empty_before(end)
        self._own = self._ahead()
        if self._own:
            return self._break(self._own), True
        return self._anchor_fault(), False

    def voids(self, faults: Sequence[Finding]) -> tuple[Finding, ...]:
        """Records that readers refuse and that are none of the chain's own; ``faults`` are listed already."""
        of_chain = {each.offset for each in self._own} | {each.offset for each in faults if each.topic == self.topic}
        voids = [each for each in self._refused if each.offset not in of_chain]
        return tuple(Finding(self.topic, each.offset, each.sequence, each.why) for each in voids)

    def _accept(self, offset: int, link: L) -> None:
        """Hear of a record that follows; ``head`` is still the one before."""

    def _stands(self, refused: Refused[L]) -> bool:
        """Whether something else than the log says that a refused record is the writer's own."""
        del refused
        return False

    def _reach(self, offset: int) -> None:
        self._empty_before(offset)
        self._next = max(self._next, offset + 1)

    def _empty_before(self, offset: int) -> None:
        """Note what stands between the last offset that was seen and this one: nothing, or a hole."""
        if offset > self._next:
            what = f"offsets {self._next} to {offset - 1} hold neither a record nor a transaction marker"
            self.holes.append(Finding(self.topic, self._next, 0, what))

    def _is_anchor(self, head: MemoryHead) -> bool:
        return any(each.head == head for each in self._anchors.get(head.sequence, ()))

    def _ahead(self) -> list[Refused[L]]:
        """Refused records ahead of the accepted chain that its writer wrote, in the order of the log."""
        ahead = [each for each in self._refused if each.sequence > self.head.sequence]
        sequences = {each.value_hash: each.sequence for each in ahead}
        if self.head.sequence:
            sequences[self.head.last_hash] = self.head.sequence
        named = {(each.prev_hash, each.sequence - 1) for each in ahead}
        return [
            each
            for each in ahead
            if sequences.get(each.prev_hash) == each.sequence - 1
            or (each.value_hash, each.sequence) in named
            or self._is_anchor(MemoryHead(each.sequence, each.value_hash))
            or self._stands(each)
        ]

    def _break(self, own: Sequence[Refused[L]]) -> Finding:
        """The first bad record, given those behind the break."""
        head, next_own = self.head, own[0]
        passed = bisect.bisect_left(self._offsets, next_own.offset)
        expected = self._before + passed + 1
        if expected <= head.sequence:
            what = f"sequence {next_own.sequence} stands before {expected}, which is at offset"
            return self._at(next_own, next_own.sequence, f"{what} {self._offsets[passed]}: records were exchanged")
        if next_own.sequence == expected:
            return self._wrong_link(next_own)
        if next_own.prev_hash == head.last_hash:
            what = f"it calls itself sequence {next_own.sequence} but names sequence {head.sequence} before it"
            return self._at(next_own, expected, f"{what}: it was changed")
        likely = self._likely(next_own.offset)
        if likely is not None:
            return self._at(likely, expected, f"it should be sequence {expected} and was changed: {likely.why}")
        what = f"sequence {expected} is missing; sequence {next_own.sequence} comes next, at offset {next_own.offset}"
        return Finding(self.topic, self._behind, expected, what)

    def _wrong_link(self, next_own: Refused[L]) -> Finding:
        """The next sequence is there but names another hash: either it was changed or the record before it."""
        named = any(each.prev_hash == next_own.value_hash for each in self._refused)
        followed = any(each.sequence == next_own.sequence + 1 for each in self._refused)
        anchors = self._anchors.get(next_own.sequence, ())
        is_other = any(each.head.last_hash != next_own.value_hash for each in anchors)
        if self.head.sequence == self._before or (followed and not named) or is_other or self._is_anchor(self.head):
            return self._at(next_own, next_own.sequence, f"it was changed: {next_own.why}")
        what = f"the record behind it, at offset {next_own.offset}, names another hash: this one was changed"
        return Finding(self.topic, self.head_offset, self.head.sequence, what)

    def _likely(self, before: int) -> Refused[L] | None:
        """Of what stands behind the last accepted record: the one that was probably the next."""
        between = [each for each in self._refused if self.head_offset < each.offset < before]
        expected, last_hash = self.head.sequence + 1, self.head.last_hash
        by_sequence = next((each for each in between if each.sequence == expected), None)
        by_hash = next((each for each in between if each.sequence and each.prev_hash == last_hash), None)
        return by_sequence or by_hash or (between[-1] if between else None)

    @property
    def _behind(self) -> int:
        """The place right behind the last accepted record."""
        return self.head_offset + 1 if self._offsets else self._first

    def _anchor_fault(self) -> Finding | None:
        """What is wrong with a known head where the log itself shows nothing."""
        for anchor in self._anchors.get(0, ()):
            if anchor.head.last_hash != ZERO_HASH:
                return Finding(self.topic, NOWHERE, 0, "no head has sequence 0")
        if self._missed:
            missed = self._missed[0]
            what = f"it was changed, or one behind sequence {self._sure} and all since were written anew"
            offset = self._offsets[missed.head.sequence - self._before - 1]
            return Finding(self.topic, offset, missed.head.sequence, f"its hash is not the {missed.said} one: {what}")
        beyond = max(self._anchors, default=0)
        if beyond <= self.head.sequence:
            return None
        said, expected = self._anchors[beyond][0].said, self.head.sequence + 1
        likely = self._likely(self._next)
        if likely is not None:
            return self._at(likely, expected, f"the {said} head is {beyond}, and here {likely.why}")
        what = f"the log ends at sequence {self.head.sequence}, and the {said} head is {beyond}: its end was cut off"
        return Finding(self.topic, self._behind, expected, what)

    def _at(self, refused: Refused[L], sequence: int, what: str) -> Finding:
        return Finding(self.topic, refused.offset, sequence, what)

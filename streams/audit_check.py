"""Whether ``audit.log`` is what the Orchestrator wrote: links, offsets, cursors, and the signed heads. Pure.

Nobody else writes here, so a record of somebody else is no less than a fault: the command fails for ``voids`` too.

What signatures cannot tell is that the end was cut off right behind a head: that takes a head which was noted elsewhere
(``isos audit verify --head``; the Orchestrator notes each one beside its key). And a record that somebody who knows the
last hash adds while no Orchestrator runs is taken for its own by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from schemas.audit import AuditEntry
from streams.audit_chain import (
    HEAD_AFTER_US,
    HEAD_EVERY,
    INTAKE,
    LOG,
    AuditPoint,
    Draft,
    advance,
    drafted,
    headed,
    is_signed,
)
from streams.errors import PoisonRecordError
from streams.link_check import Anchor, Finding, LinkCheck, Refused
from streams.memory_view import MemoryHead
from streams.topics import TOPICS

MAX_UNSIGNED: Final = 2 * HEAD_EVERY
"""So many entries without a head are none of our writer's: a batch is at most ``HEAD_EVERY``, and a head follows it."""
LATE_US: Final = 3 * HEAD_AFTER_US
"""So old an entry without a head behind it is one that a running writer would have signed for."""
KEPT_US: Final = TOPICS[LOG].retention_ms * 1000


@dataclass(frozen=True, slots=True)
class AuditReport:
    """``signed``: the last sequence that a head signs for; ``point``: where the accepted chain ends.

    ``faults``: the first bad record first; ``voids``: records of somebody else, which no reader counts.
    """

    point: AuditPoint
    head_offset: int
    end: int
    first_sequence: int
    num_entries: int
    num_heads: int
    num_markers: int
    signed: int
    faults: tuple[Finding, ...]
    voids: tuple[Finding, ...]


class AuditCheck(LinkCheck[AuditEntry]):
    """Takes the records and markers of ``audit.log`` by offset; ``public_keys``: all that were ever the signer's.

    ``on_entry`` gets each entry of the chain.
    """

    def __init__(
        self,
        decode: Callable[[bytes | None], AuditEntry],
        public_keys: Sequence[str],
        first: int = 0,
        anchors: Iterable[Anchor] = (),
        on_entry: Callable[[int, AuditEntry], None] = lambda offset, entry: None,
    ) -> None:
        super().__init__(LOG, decode, first, anchors)
        self._on_entry = on_entry
        self._keys = public_keys
        self._first_entry: AuditEntry | None = None
        self._previous: AuditPoint = AuditPoint()
        self._last: AuditEntry | None = None
        self._found: list[Finding] = []
        self._heads = self._signed_for = 0
        self._is_late = False

    def record(self, offset: int, value: bytes | None) -> None:
        """Take a record."""
        if self._first and self._first_entry is None:
            self._begin(value)
        super().record(offset, value)

    def report(self, end: int, now_us: int) -> AuditReport:
        """Close the check at the offset behind the log; ``now_us``: by when what is old must be signed for."""
        first, is_broken = self.close(end)
        point = self._reached()
        found = [*self._found, *([] if first is None else [first]), *self.holes]
        if not is_broken:
            found += [*self._beginning(now_us), *self._unsigned_end(point, now_us)]
        faults = tuple(sorted(found, key=lambda each: each.offset))
        return AuditReport(
            point=point,
            head_offset=self.head_offset,
            end=end,
            first_sequence=0 if self._first_entry is None else self._first_entry.sequence,
            num_entries=len(self._offsets),
            num_heads=self._heads,
            num_markers=self.num_markers,
            signed=self._signed_for,
            faults=faults,
            voids=self.voids(faults),
        )

    def _begin(self, value: bytes | None) -> None:
        """Where retention took the beginning, the first record that can be read says what came before it."""
        try:
            entry = self._decode(value)
        except PoisonRecordError:
            return
        self.begin_behind(MemoryHead(entry.sequence - 1, entry.prev_hash))
        self._previous = AuditPoint(
            entry.sequence - 1, entry.prev_hash, entry.prev_time_us, memory_signed=0, unsigned=0, unsigned_us=0
        )

    def _stands(self, refused: Refused[AuditEntry]) -> bool:
        """Whether it is a head of ours that signs for the entry which its link names, too."""
        link = refused.link
        if (
            link is None
            or link.head is None
            or (link.head.sequence, link.head.hash)
            != (
                link.sequence - 1,
                link.prev_hash,
            )
        ):
            return False
        return is_signed(link.head, self._keys)

    def _reached(self) -> AuditPoint:
        return self._previous if self._last is None else advance(self._previous, self._last, self.head.last_hash)

    def _accept(self, offset: int, link: AuditEntry) -> None:
        point = self._previous = self._reached()
        self._last = link
        if self._first_entry is None:
            self._first_entry = link
            if link.sequence > 1:  # retention took what says where the cursors stood
                point = self._previous = replace(
                    point, intake_offset=link.intake_offset, memory_offset=link.memory_offset
                )
        problem = self._head_problem(point, link) if link.head is not None else self._problem(point, link)
        if problem:
            self._found.append(Finding(LOG, offset, link.sequence, problem))
        self._on_entry(offset, link)

    def _head_problem(self, point: AuditPoint, link: AuditEntry) -> str:
        head = link.head
        self._heads += 1
        self._is_late = False
        if head is None or (head.sequence, head.hash) != (point.sequence, point.last_hash):
            return "the head signs for another entry than the one before it"
        if not self._keys:
            return "the head cannot be checked: memory holds no public key of the Orchestrator"
        if not is_signed(head, self._keys):
            return "the head's signature is not the Orchestrator's"
        if link != headed(point, head):
            return "the entry of a signed head says more than the head: it was changed"
        self._signed_for = point.sequence
        return ""

    def _problem(self, point: AuditPoint, link: AuditEntry) -> str:
        if link.record is None:
            return "the entry holds nothing"
        first = link is self._first_entry and link.sequence > 1
        more = link.origin_offset == (link.intake_offset if link.origin == INTAKE else link.memory_offset)
        draft = Draft(link.origin, link.origin_offset, link.record, more)
        if not first and link != drafted(point, draft, link.time_us):
            return "its times or offsets do not follow those of the entry before it"
        if link.origin == INTAKE and link.origin_offset < point.intake_offset and not first:
            return f"offset {link.origin_offset} of the intake is recorded again"
        if point.unsigned >= MAX_UNSIGNED and not self._is_late:
            self._is_late = True
            return f"{point.unsigned} entries before it have no signed head: they are not the Orchestrator's"
        return ""

    def _beginning(self, now_us: int) -> list[Finding]:
        """Retention may take what is old enough; nothing else may."""
        entry = self._first_entry
        if entry is None:
            what = f"nothing is left of what stood on 0 to {self._first - 1}"
            return [Finding(LOG, self._first, 0, what)] if self._first and self._refused else []
        if entry.sequence == 1 or entry.prev_time_us <= now_us - KEPT_US:
            return []
        what = f"the log begins with sequence {entry.sequence}; those before it are gone and were not old enough"
        return [Finding(LOG, self._offsets[0], 1, what)]

    def _unsigned_end(self, point: AuditPoint, now_us: int) -> list[Finding]:
        if not point.unsigned or now_us - point.unsigned_us <= LATE_US:
            return []
        first = point.sequence - point.unsigned + 1
        what = f"from here {point.unsigned} entries have no signed head, and the Orchestrator signs within a minute"
        at = self._offsets[max(0, len(self._offsets) - point.unsigned)]
        return [Finding(LOG, at, first, f"{what}: start it, or they are not its own")]

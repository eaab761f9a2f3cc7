"""The chain of ``audit.log``: what its one writer appends, and the heads that it signs. Pure.

Each entry names the SHA-256 of the one before. A head is an entry that says, under the signature of the Orchestrator's
key, how the chain and memory stood: at the latest after ``HEAD_EVERY`` entries or ``HEAD_AFTER_US``, where something
new stands. So whoever changes what is signed for needs the key, and a log that goes on without heads is not the
writer's. ``streams.audit_check`` looks at both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from schemas.audit import AuditEntry, AuditHead, AuditRecord
from streams.link_check import SIGNED, Anchor
from streams.memory_view import ZERO_HASH, MemoryHead
from streams.signing import key_id, public_key_of, sign, signed_bytes, verify

LOG: Final = "audit.log"
SIGNER: Final = "orchestrator"
"""The name under which the public key stands in memory (``signer/orchestrator``)."""
PURPOSE: Final = "audit head"
INTAKE: Final = "intake"
MEMORY: Final = "memory"
SPOOL: Final = "spool"
OWN: Final = "log"
NO_OFFSET: Final = -1
HEAD_EVERY: Final = 100
HEAD_AFTER_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class AuditPoint:
    """Where the chain stands, and where its writer goes on: offsets behind what is recorded of intake and memory.

    ``unsigned``: entries since the last head, the first of them of ``unsigned_us``.
    """

    sequence: int = 0
    last_hash: bytes = ZERO_HASH
    time_us: int = 0
    intake_offset: int = 0
    memory_offset: int = 0
    unsigned: int = 0
    unsigned_us: int = 0
    memory_signed: int = 0

    @property
    def head(self) -> MemoryHead:
        """Sequence and hash of the last entry."""
        return MemoryHead(self.sequence, self.last_hash)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to append, and where it comes from (-1: no offset).

    ``more``: another one of the same place follows, so the cursor does not move yet.
    """

    origin: str
    offset: int
    record: AuditRecord
    more: bool = False


def drafted(point: AuditPoint, draft: Draft, now_us: int) -> AuditEntry:
    """The entry of a draft behind ``point``."""
    behind = draft.offset + (not draft.more)
    return AuditEntry(
        sequence=point.sequence + 1,
        prev_hash=point.last_hash,
        prev_time_us=point.time_us,
        time_us=max(now_us, point.time_us),
        origin=draft.origin,
        origin_offset=draft.offset,
        intake_offset=behind if draft.origin == INTAKE else point.intake_offset,
        memory_offset=behind if draft.origin == MEMORY else point.memory_offset,
        record=draft.record,
    )


def headed(point: AuditPoint, head: AuditHead) -> AuditEntry:
    """The entry of a signed head behind ``point``; nothing in it can be chosen."""
    return AuditEntry(
        sequence=point.sequence + 1,
        prev_hash=point.last_hash,
        prev_time_us=point.time_us,
        time_us=head.time_us,
        origin=OWN,
        origin_offset=NO_OFFSET,
        intake_offset=point.intake_offset,
        memory_offset=point.memory_offset,
        head=head,
    )


def advance(point: AuditPoint, entry: AuditEntry, value_hash: bytes) -> AuditPoint:
    """The point behind an entry that follows ``point``."""
    is_head = entry.head is not None
    first_us = point.unsigned_us if point.unsigned else entry.time_us
    return AuditPoint(
        sequence=entry.sequence,
        last_hash=value_hash,
        time_us=entry.time_us,
        intake_offset=entry.intake_offset,
        memory_offset=entry.memory_offset,
        unsigned=0 if is_head else point.unsigned + 1,
        unsigned_us=0 if is_head else first_us,
        memory_signed=point.memory_signed if entry.head is None else entry.head.memory_sequence,
    )


def value_hash(value: bytes | None) -> bytes:
    """SHA-256 of a record's value as stored."""
    return hashlib.sha256(value or b"").digest()


def head_is_due(point: AuditPoint, memory: MemoryHead, signed_us: int, now_us: int) -> bool:
    """Whether to sign now: after enough entries, or a minute after the last head where anything is new."""
    is_new = point.unsigned > 0 or memory.sequence > point.memory_signed
    return point.unsigned >= HEAD_EVERY or (is_new and now_us - signed_us >= HEAD_AFTER_US)


def sign_head(point: AuditPoint, memory: MemoryHead, private_key: bytes, now_us: int) -> AuditHead:
    """The signed head of ``point`` and of memory."""
    head = AuditHead(
        signer=SIGNER,
        key_id=key_id(public_key_of(private_key)),
        time_us=max(now_us, point.time_us),
        sequence=point.sequence,
        hash=point.last_hash,
        memory_sequence=memory.sequence,
        memory_hash=memory.last_hash,
    )
    return replace(head, signature=sign(private_key, _statement(head)))


def is_signed(head: AuditHead, public_keys: Iterable[str]) -> bool:
    """Whether the head's signature is one of the keys'."""
    return any(head.key_id == key_id(each) and verify(each, _statement(head), head.signature) for each in public_keys)


def signs_before(entry: AuditEntry, public_keys: Iterable[str]) -> bool:
    """Whether an entry is a head that is signed with one of the keys for the entry which its link names."""
    head = entry.head
    is_own = head is not None and (head.sequence, head.hash) == (entry.sequence - 1, entry.prev_hash)
    return head is not None and is_own and is_signed(head, public_keys)


def memory_anchor(entry: AuditEntry, public_keys: Sequence[str]) -> Anchor | None:
    """The head of memory that an entry signs for; None where it signs for none, or not with these keys."""
    head = entry.head
    if head is None or not head.memory_sequence or not is_signed(head, public_keys):
        return None
    return Anchor(MemoryHead(head.memory_sequence, head.memory_hash), SIGNED)


def _statement(head: AuditHead) -> bytes:
    return signed_bytes(PURPOSE, replace(head, signature=""))

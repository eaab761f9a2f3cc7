"""Audit logs for tests: a chain of records and signed heads, as the Orchestrator would have written it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from schemas.audit import AuditEntry, AuditRecord
from streams.audit_chain import INTAKE, LOG, AuditPoint, Draft, advance, drafted, headed, sign_head, value_hash
from streams.audit_check import AuditCheck, AuditReport
from streams.audit_operation import NO_FACTS, Actor, Facts, Operation
from streams.codec import Codec, SchemaIds
from streams.link_check import NOTED, Anchor
from streams.memory_view import MemoryHead
from streams.signing import public_key_of

CODEC = Codec(SchemaIds.local())
DECODE: Callable[[bytes | None], AuditEntry] = partial(CODEC.decode, LOG)
SEED = bytes(range(32))
KEYS = (public_key_of(SEED),)
T = 1_700_000_000_000_000
MEMORY = MemoryHead(7, b"\x07" * 32)
AuditValues = list[bytes | None]


def record(number: int, phase: str = "before") -> AuditRecord:
    """The record of an operation ``op<number>``."""
    return AuditRecord(
        f"op{number}", phase, T + number, "alice", "CHG-1", "production", "models.activate", "digits", "v2.0.0"
    )


class AuditLogOfATest:
    """Appends as the writer does; entries are a second apart."""

    def __init__(self, seed: bytes = SEED) -> None:
        self.seed = seed
        self.point = AuditPoint()
        self.values: AuditValues = []

    def append(self, entry: AuditEntry) -> None:
        value = CODEC.encode(LOG, entry)
        self.values.append(value)
        self.point = advance(self.point, entry, value_hash(value))

    def record(self, origin: str = INTAKE) -> None:
        offset = self.point.intake_offset if origin == INTAKE else self.point.memory_offset
        now_us = T + (self.point.sequence + 1) * 1_000_000
        self.append(drafted(self.point, Draft(origin, offset, record(self.point.sequence)), now_us))

    def head(self, memory: MemoryHead = MEMORY) -> None:
        now_us = T + (self.point.sequence + 1) * 1_000_000
        self.append(headed(self.point, sign_head(self.point, memory, self.seed, now_us)))


def audit_log(length: int, every: int = 4, seed: bytes = SEED) -> AuditLogOfATest:
    """A log of ``length`` entries, each ``every``-th and the last one a head."""
    made = AuditLogOfATest(seed)
    for number in range(1, length + 1):
        if number % every == 0 or number == length:
            made.head()
        else:
            made.record()
    return made


def check(values: AuditValues, *noted: MemoryHead, now_us: int = 0, first: int = 0) -> AuditReport:
    """Check a log whose offsets are dense; ``now_us``: a moment after its end unless it is given."""
    made = AuditCheck(DECODE, KEYS, first, [Anchor(head, NOTED) for head in noted])
    for offset, value in enumerate(values, start=first):
        made.record(offset, value)
    return made.report(first + len(values), now_us or T + (len(values) + first + 1) * 1_000_000)


class Recorder:
    """Stands in for an audit writer: keeps the operations, each as it ended."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []

    @contextlib.contextmanager
    def operation(self, name: str, facts: Facts = NO_FACTS) -> Iterator[Operation]:
        made = Operation(Actor("a process", "control-0"), name, "op", T, facts)
        try:
            yield made
        except BaseException as error:  # noted, never kept
            made.ends_by(error)
            raise
        finally:
            self.records.append(made.after(T))

"""Reading the audit log with the keys of its signer: what is checked, what is listed, which heads memory has."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from infra import audit_check
from infra.audit_check import EVENTS_PLACE, LOG_PLACE, check_audit, read_entries, signed_memory_heads
from schemas.environment import Signer
from schemas.memory import MemoryEvent
from streams.audit_chain import value_hash
from streams.canonical import to_json
from streams.connection import Connection
from streams.link_check import SIGNED, Anchor
from streams.marker_fetch import Marker
from streams.memory_view import MemoryHead
from streams.signing import public_key_of
from tests.support.audit import CODEC, KEYS, MEMORY, AuditValues, T, audit_log

NOWHERE = Connection("127.0.0.1:1")
LOG = audit_log(8, every=4)
NOW = T + 9_000_000


def memory(*bodies: str | None, head: MemoryHead = MemoryHead()) -> list[bytes]:  # noqa: B008 - frozen
    """A chain of events behind ``head``, each of which sets the audit log's signer."""
    made: list[bytes] = []
    for body in bodies:
        event = MemoryEvent(
            *(head.sequence + 1, head.last_hash, "c", "x", "Set", "signer/orchestrator", 1, body, "", (), T)
        )
        made.append(CODEC.encode("memory.events", event))
        head = MemoryHead(event.sequence, value_hash(made[-1]))
    return made


def said(key: str) -> str:
    return to_json(Signer("orchestrator", key, "process"))


KEY = memory(said(KEYS[0]))[0]
OTHER = public_key_of(b"\x05" * 32)


def records(values: AuditValues, key: bytes = b"k") -> list[Any]:
    """A marker, then records."""
    made = [SimpleNamespace(offset=n, key=key, value=value) for n, value in enumerate(values, start=1)]
    return [Marker(0), *made]


class Scan:
    """Stands in for ``LogScan`` over two logs in memory; records are a second apart."""

    def __init__(self, log: list[Any], events: list[Any]) -> None:
        self.logs = {LOG_PLACE: log, EVENTS_PLACE: events}
        self.markers = False

    def __call__(self, connection: Connection, *, markers: bool = False) -> Scan:
        self.markers = markers
        return self

    async def __aenter__(self) -> Scan:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def bounds(self, place: TopicPartition) -> tuple[int, int]:
        return 0, len(self.logs[place])

    async def at_time(self, place: TopicPartition, time_ms: int) -> int | None:
        offset = (time_ms - T // 1000) // 1000
        return offset if offset < len(self.logs[place]) else None

    async def scan(
        self,
        place: TopicPartition,
        first: int,
        end: int,
        take: Callable[[Any], bool],
        step: Callable[[int], None] = lambda reached: None,
    ) -> None:
        for each in self.logs[place][first:end]:
            if self.markers or not isinstance(each, Marker):
                assert take(each)
        step(end)


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scan]:
    async def ids(connection: Connection) -> Any:
        return CODEC.ids

    monkeypatch.setattr(audit_check, "read_schema_ids", ids)

    def use(values: AuditValues, *keys: bytes | None) -> Scan:
        made = Scan(records(values), records(list(keys), b"signer/orchestrator"))
        monkeypatch.setattr(audit_check, "LogScan", made)
        return made

    return use


def ignore(what: str, reached: int, end: int) -> None:
    return


async def test_a_whole_log_with_the_key_of_memory(scan: Any) -> None:
    bodies = memory(None, '{"public_key":"none"}', "[]", "?", said(KEYS[0]), said(KEYS[0]))
    made = scan(LOG.values, b"?", *bodies)
    report, keys = await check_audit(NOWHERE, [Anchor(LOG.point.head)], NOW, ignore)
    assert (report.faults, report.voids, report.num_markers, report.signed) == ((), (), 1, 7)
    assert (keys, made.markers) == (KEYS, True)


async def test_without_a_key_in_memory_no_head_counts(scan: Any) -> None:
    scan(LOG.values)
    report, keys = await check_audit(NOWHERE, (), NOW, ignore)
    assert (keys, report.signed, len(report.faults)) == ((), 0, 2)
    assert await signed_memory_heads(NOWHERE) == ()


async def test_the_key_of_a_forged_event_counts_for_nothing(scan: Any) -> None:
    """Whoever can write to the topic of memory, but not into its chain, has no key to sign an audit log with."""
    for forged in (memory(said(OTHER)), memory(said(OTHER), head=MemoryHead(1, b"\x01" * 32))):
        scan(audit_log(8, every=4, seed=b"\x05" * 32).values, KEY, *forged)
        report, keys = await check_audit(NOWHERE, (), NOW, ignore)
        assert (keys, report.signed, len(report.faults)) == (KEYS, 0, 2)


@pytest.mark.parametrize("reach", [3, 1_000])
@pytest.mark.parametrize("stranger", [audit_log(12, seed=b"\x05" * 32).values[11], LOG.values[3], b"?"])
async def test_what_a_stranger_wrote_is_no_beginning_of_a_list(
    scan: Any, stranger: bytes, reach: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--since`` begins with a stranger's record, which could be read as the first of the log."""
    monkeypatch.setattr(audit_check, "REACH", reach)
    scan([*LOG.values[:5], stranger, *LOG.values[5:]], KEY)
    found: list[int] = []
    await read_entries(NOWHERE, T + 6_000_000, lambda offset, entry: found.append(entry.sequence), ignore)
    assert found == [6, 7, 8]


async def test_the_heads_of_memory_that_are_signed_for(scan: Any) -> None:
    scan([b"?", *LOG.values], KEY)
    assert await signed_memory_heads(NOWHERE) == (Anchor(MEMORY, SIGNED),)


async def test_entries_since_a_time(scan: Any) -> None:
    scan([*LOG.values, b"?"], KEY)
    for since_us, sequences in ((0, list(range(1, 9))), (T + 5_000_000, [5, 6, 7, 8]), (T + 99_000_000, [])):
        found: list[int] = []
        await read_entries(NOWHERE, since_us, lambda offset, entry, found=found: found.append(entry.sequence), ignore)  # type: ignore[misc]
        assert found == sequences

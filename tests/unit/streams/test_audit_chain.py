"""What the audit log's writer appends: entries that follow, cursors, heads that say who signed what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.audit_chain import (
    HEAD_AFTER_US,
    HEAD_EVERY,
    MEMORY,
    SPOOL,
    AuditPoint,
    Draft,
    advance,
    drafted,
    head_is_due,
    headed,
    is_signed,
    memory_anchor,
    sign_head,
    value_hash,
)
from streams.link_check import SIGNED, Anchor
from streams.memory_view import MemoryHead
from tests.support.audit import CODEC, KEYS, SEED, T, audit_log, record
from tests.support.audit import MEMORY as MEMORY_HEAD

POINT = AuditPoint(5, b"\x05" * 32, T, 11, 22, 2, T - 5, 3)


def test_an_entry_follows_and_moves_the_cursor_of_its_origin() -> None:
    entry = drafted(POINT, Draft("intake", 11, record(1)), T + 9)
    assert (entry.sequence, entry.prev_hash, entry.prev_time_us, entry.time_us) == (6, POINT.last_hash, T, T + 9)
    assert (entry.intake_offset, entry.memory_offset) == (12, 22)
    of_memory = drafted(POINT, Draft(MEMORY, 30, record(1)), T + 9)
    assert (of_memory.intake_offset, of_memory.memory_offset) == (11, 31)
    spooled = drafted(POINT, Draft(SPOOL, -1, record(1)), T - 9)
    assert (spooled.intake_offset, spooled.memory_offset, spooled.time_us) == (11, 22, T)  # time never goes back


def test_a_point_counts_what_is_not_signed() -> None:
    entry = drafted(POINT, Draft("intake", 11, record(1)), T + 9)
    after = advance(POINT, entry, b"h" * 32)
    assert after == AuditPoint(6, b"h" * 32, T + 9, 12, 22, 3, T - 5, 3)
    signed = advance(after, headed(after, sign_head(after, MEMORY_HEAD, SEED, T + 10)), b"i" * 32)
    assert (signed.unsigned, signed.unsigned_us, signed.memory_signed) == (0, 0, MEMORY_HEAD.sequence)
    assert advance(signed, drafted(signed, Draft("intake", 12, record(1)), T + 11), b"j" * 32).unsigned_us == T + 11


def test_a_head_holds_for_one_point_and_one_key() -> None:
    head = sign_head(POINT, MEMORY_HEAD, SEED, T + 1)
    assert (head.sequence, head.hash, head.memory_sequence) == (5, POINT.last_hash, 7)
    assert is_signed(head, KEYS)
    assert is_signed(head, ("00" * 32, *KEYS))
    assert not is_signed(head, ())
    assert not is_signed(replace(head, sequence=6), KEYS)
    assert not is_signed(replace(head, memory_hash=b"\x01" * 32), KEYS)
    assert not is_signed(sign_head(POINT, MEMORY_HEAD, bytes(32), T + 1), KEYS)


def test_what_a_head_says_of_memory_counts_only_when_it_is_signed() -> None:
    entry = headed(POINT, sign_head(POINT, MEMORY_HEAD, SEED, T + 1))
    assert memory_anchor(entry, KEYS) == Anchor(MEMORY_HEAD, SIGNED)
    assert memory_anchor(entry, ()) is None
    assert memory_anchor(headed(POINT, sign_head(POINT, MemoryHead(), SEED, T)), KEYS) is None
    assert memory_anchor(drafted(POINT, Draft("intake", 1, record(1)), T), KEYS) is None


@pytest.mark.parametrize(
    ("unsigned", "memory", "passed_us", "due"),
    [
        (HEAD_EVERY, 3, 0, True),
        (HEAD_EVERY - 1, 3, HEAD_AFTER_US - 1, False),
        (1, 3, HEAD_AFTER_US, True),
        (0, 3, 10 * HEAD_AFTER_US, False),
        (0, 4, HEAD_AFTER_US, True),
        (0, 4, 5, False),
    ],
)
def test_when_a_head_is_due(unsigned: int, memory: int, passed_us: int, due: bool) -> None:
    point = replace(POINT, unsigned=unsigned)
    assert head_is_due(point, MemoryHead(memory, bytes(32)), T, T + passed_us) is due


def test_a_log_is_a_chain_of_hashes() -> None:
    log = audit_log(9)
    entries = [CODEC.decode("audit.log", value) for value in log.values]
    assert [each.sequence for each in entries] == list(range(1, 10))
    assert [each.prev_hash for each in entries[1:]] == [value_hash(value) for value in log.values[:-1]]
    assert [each.sequence for each in entries if each.head is not None] == [4, 8, 9]

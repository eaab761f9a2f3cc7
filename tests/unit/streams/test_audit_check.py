"""The check of the audit log: whatever is done to any byte of it is found, and where."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.audit_chain import HEAD_EVERY, Draft, drafted, headed, sign_head
from streams.audit_check import KEPT_US, LATE_US, MAX_UNSIGNED, AuditCheck, AuditReport
from tests.support.audit import CODEC, DECODE, MEMORY, SEED, AuditLogOfATest, T, audit_log, check, record

LOG = audit_log(8, every=3)
HEADS = (3, 6, 8)
NUM = len(LOG.values)
NOTED = LOG.point.head


def place(report: AuditReport) -> int:
    """Offset of the first bad record, whoever wrote it."""
    found = sorted(each.offset for each in (*report.faults, *report.voids))
    assert found
    return found[0]


def test_a_whole_log_is_sound() -> None:
    report = check(LOG.values, NOTED)
    assert (report.faults, report.voids) == ((), ())
    assert report.point == LOG.point
    assert (report.num_entries, report.num_heads, report.signed) == (8, 3, 7)
    assert (report.first_sequence, report.head_offset, report.end) == (1, 7, 8)


@pytest.mark.parametrize("k", range(NUM))
def test_a_flipped_bit_of_any_byte_is_found_in_its_record(k: int) -> None:
    value = LOG.values[k] or b""
    for at in range(len(value)):
        changed = bytearray(value)
        changed[at] ^= 1 << (at % 8)
        assert place(check([*LOG.values[:k], bytes(changed), *LOG.values[k + 1 :]])) == k, at


@pytest.mark.parametrize("k", range(NUM))
def test_a_deleted_record_is_found(k: int) -> None:
    report = check([*LOG.values[:k], *LOG.values[k + 1 :]], NOTED)
    assert (place(report), report.faults[0].sequence) == (k, k + 1)


@pytest.mark.parametrize("length", range(NUM))
def test_a_truncation_is_found_by_a_noted_head(length: int) -> None:
    report = check(LOG.values[:length], NOTED)
    assert (place(report), report.faults[0].sequence) == (length, length + 1)


def test_exchanged_records_are_found() -> None:
    for i in range(NUM):
        for j in range(i + 1, NUM):
            changed = LOG.values.copy()
            changed[i], changed[j] = changed[j], changed[i]
            assert place(check(changed, NOTED)) == i, (i, j)


@given(st.integers(0, NUM), st.one_of(st.binary(max_size=60), st.none(), st.sampled_from(LOG.values)))
def test_an_inserted_record_is_found(at: int, foreign: bytes | None) -> None:
    report = check([*LOG.values[:at], foreign, *LOG.values[at:]], NOTED)
    is_copy_before = at < NUM and foreign == LOG.values[at]
    assert place(report) == (at + 1 if is_copy_before else at)


@given(st.integers(0, NUM - 1), st.integers(1, 6))
def test_a_forger_who_writes_all_hashes_anew_needs_the_key(at: int, length: int) -> None:
    """From ``at`` on the log is somebody else's: well linked, with heads of another key or without."""
    for seed in (None, bytes(32)):
        forged = AuditLogOfATest(bytes(32) if seed is None else seed)
        for value in LOG.values[:at]:
            forged.append(CODEC.decode("audit.log", value))
        for number in range(length):
            forged.record()
            if seed is not None and number % 2:
                forged.head()
        report = check(forged.values, NOTED, now_us=T + 2 * LATE_US)
        signed = max((number for number in HEADS if number <= at), default=0)
        assert signed <= place(report) <= len(forged.values)
        assert report.signed <= signed


def test_a_head_of_another_key_and_one_without_any_key() -> None:
    other = audit_log(4, seed=bytes(32))
    (fault,) = check(other.values).faults
    assert (fault.offset, fault.sequence, fault.what) == (3, 4, "the head's signature is not the Orchestrator's")
    unchecked = AuditCheck(DECODE, ())
    for offset, value in enumerate(LOG.values[:4]):
        unchecked.record(offset, value)
    (fault,) = unchecked.report(4, T).faults
    assert "memory holds no public key" in fault.what


def test_a_head_of_elsewhere_is_found_though_its_signature_is_right() -> None:
    log = audit_log(5)
    elsewhere = sign_head(dataclasses.replace(log.point, sequence=3), MEMORY, SEED, T + 9_000_000)
    log.append(headed(log.point, elsewhere))
    (fault,) = check(log.values).faults
    assert (fault.offset, "signs for another entry" in fault.what) == (5, True)


def test_entries_without_heads_are_not_the_writers() -> None:
    log = AuditLogOfATest()
    for _ in range(MAX_UNSIGNED + HEAD_EVERY):
        log.record()
    (fault,) = check(log.values, now_us=T + 1).faults
    assert (fault.offset, fault.sequence) == (MAX_UNSIGNED, MAX_UNSIGNED + 1)


def test_an_end_that_nobody_signed_for_is_a_fault_after_some_minutes() -> None:
    log = audit_log(4)
    log.record()
    log.record()
    last_us = log.point.time_us
    assert check(log.values, now_us=last_us + LATE_US - 2_000_000).faults == ()
    (fault,) = check(log.values, now_us=last_us + LATE_US + 1).faults
    assert (fault.offset, fault.sequence) == (4, 5)
    assert "from here 2 entries have no signed head" in fault.what


def test_the_same_intake_record_twice_and_cursors_that_jump() -> None:
    log = audit_log(4)
    point = log.point
    log.append(drafted(point, Draft("intake", 0, record(0)), point.time_us))
    assert [(each.offset, each.what) for each in check(log.values).faults] == [
        (4, "offset 0 of the intake is recorded again")
    ]
    jumped = dataclasses.replace(drafted(point, Draft("intake", 9, record(0)), point.time_us), memory_offset=99)
    log = audit_log(4)
    log.append(jumped)
    assert "its times or offsets do not follow" in check(log.values).faults[0].what
    empty = dataclasses.replace(jumped, memory_offset=0, record=None)
    log = audit_log(4)
    log.append(empty)
    assert [each.what for each in check(log.values).faults] == ["the entry holds nothing"]


def test_retention_may_take_the_beginning_and_nobody_else() -> None:
    rest = LOG.values[3:]
    sound = check(rest, NOTED, first=3, now_us=T + KEPT_US + 100_000_000)
    # The end is old and signed, so nothing else is wrong with it.
    assert (sound.faults, sound.voids, sound.first_sequence) == ((), (), 4)
    (fault,) = check(rest, NOTED, first=3).faults
    assert (fault.offset, fault.sequence) == (3, 1)
    assert "those before it are gone and were not old enough" in fault.what
    flipped = [rest[0], (rest[1] or b"")[:-1] + b"?", *rest[2:]]
    assert place(check(flipped, NOTED, first=3, now_us=T + KEPT_US + 100_000_000)) == 4


def test_a_log_of_which_only_garbage_is_left() -> None:
    report = check([b"?"], first=5)
    assert (report.faults[0].offset, "nothing is left" in report.faults[0].what) == (5, True)
    assert check([], first=5).faults == ()
    assert check([], NOTED, first=5).faults[0].sequence == 1

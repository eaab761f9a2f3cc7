"""Audit records on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra import audit_spool
from infra.audit_spool import MAX_BYTES, remove, spool, spooled
from infra.settings import Settings, load_settings
from streams.canonical import to_json
from tests.support.audit import record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "data")


def test_records_wait_in_their_order_and_are_removed(settings: Settings) -> None:
    assert spooled(settings) == []
    records = [record(1, "before"), record(1, "after"), record(2, "before")]
    for each in reversed(records):
        spool(settings, each)
        spool(settings, each)  # written again is the same
    waiting = spooled(settings)
    assert [each.record for each in waiting] == records
    remove(waiting[:2])
    remove(waiting[:2])
    assert [each.record for each in spooled(settings)] == records[2:]


WIDE = to_json(replace(record(2), timestamp_us=1 << 70)).encode()
NO_TEXT = to_json(replace(record(2), user="bob")).replace("bob", "\\udcff").encode()


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b" " * (MAX_BYTES + 1), WIDE, NO_TEXT])
def test_what_is_no_record_is_set_aside(settings: Settings, text: bytes) -> None:
    spool(settings, record(1))
    folder = settings.data_dir / "audit-spool"
    (folder / "0.json").write_bytes(text)
    assert [each.record for each in spooled(settings)] == [record(1)]
    assert [each.name for each in folder.glob("*.unreadable")] == ["0.unreadable"]
    assert len(spooled(settings)) == 1


def test_a_spool_that_nobody_empties_is_full_one_day(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_spool, "MAX_SPOOLED", 2)
    for number in (1, 2):
        spool(settings, record(number))
    with pytest.raises(OSError, match="2 records wait already"):
        spool(settings, record(3))

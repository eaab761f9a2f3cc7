"""A member's note is whole or none, and goodbye is never waited for longer than it is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams import predecessor
from streams.connection import Connection
from streams.predecessor import MemberNote
from tests.support.broker import free_ports


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    note = MemberNote(tmp_path / "edge-0.member")
    assert note.read() is None
    note.write("isos-edge", "aiokafka-1")
    note.write("isos-edge", "aiokafka-2")
    assert MemberNote(tmp_path / "edge-0.member").read() == ("isos-edge", "aiokafka-2")
    assert [path.name for path in tmp_path.iterdir()] == ["edge-0.member"]


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", '{"group": "a"}', '{"group": "a", "member_id": 3}', '{"group": "", "member_id": "b"}']
)
def test_what_is_no_note_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edge-0.member"
    path.write_text(text)
    assert MemberNote(path).read() is None


def test_a_note_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    note = MemberNote(tmp_path / "missing" / "edge-0.member")
    note.write("isos-edge", "aiokafka-1")
    assert note.read() is None


async def test_without_a_note_nobody_is_asked(tmp_path: Path) -> None:
    assert not await MemberNote(tmp_path / "edge-0.member").leave(Connection("nobody.invalid:1"))


async def test_a_broker_that_is_away_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process goes on, and what comes after it does not try again with what is old by then."""
    monkeypatch.setattr(predecessor, "GOODBYE_S", 0.5)
    note = MemberNote(tmp_path / "edge-0.member")
    note.write("isos-edge", "aiokafka-1")
    (port,) = free_ports(1)
    assert not await note.leave(Connection(f"127.0.0.1:{port}"))
    assert note.read() is None

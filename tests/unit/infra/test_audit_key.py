"""The audit log's key and the noted head as files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.audit_key import audit_key, note_head, noted_head, public_key_here
from infra.settings import Settings, StartError, load_settings
from streams.memory_view import MemoryHead
from streams.signing import public_key_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path)


def test_the_key_is_made_once_and_for_its_account_only(settings: Settings) -> None:
    seed = audit_key(settings)
    path = settings.data_dir / "keys" / "audit.ed25519"
    assert len(seed) == 32
    assert audit_key(settings) == seed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_is_no_key_is_a_sentence(settings: Settings) -> None:
    audit_key(settings)
    path = settings.data_dir / "keys" / "audit.ed25519"
    for text in ("", "xyz", "ab" * 31):
        path.write_text(text)
        with pytest.raises(StartError, match="is no key: it has 64 hexadecimal digits"):
            audit_key(settings)
    path.unlink()
    path.mkdir()
    with pytest.raises(StartError, match="cannot be had"):
        audit_key(settings)


def test_an_auditor_who_may_not_read_the_key_goes_on_without_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert public_key_here(settings) == ""
    assert public_key_here(settings) == ""  # and made none
    seed = audit_key(settings)
    assert public_key_here(settings) == public_key_of(seed)

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    assert public_key_here(settings) == ""


def test_the_newest_head_is_noted(settings: Settings) -> None:
    assert noted_head(settings) is None
    for sequence in (4, 9):
        note_head(settings, MemoryHead(sequence, b"\x01" * 32))
    assert noted_head(settings) == MemoryHead(9, b"\x01" * 32)
    (settings.data_dir / "keys" / "audit.head").write_text("nonsense")
    assert noted_head(settings) is None

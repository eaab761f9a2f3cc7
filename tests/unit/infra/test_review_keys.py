"""Key files: made once, for their owner only, and refused in a sentence where they are not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.review_keys import KeyFileError, key_path, make_key, read_key, read_or_make_key


def test_a_key_is_made_for_its_owner_only_and_never_again(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ann.pem"
    private_key = make_key(path)
    assert (len(private_key), read_key(path)) == (32, private_key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyFileError, match="exists already") as refused:
        make_key(path)
    assert (refused.value.exit_code, read_key(path)) == (4, private_key)


def test_a_process_finds_its_key_again(tmp_path: Path) -> None:
    assert read_or_make_key(tmp_path / "a") == read_or_make_key(tmp_path / "a")
    assert read_or_make_key(tmp_path / "a") != read_or_make_key(tmp_path / "b")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ann.pem"
    make_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600") as refused:
        read_key(path)
    assert refused.value.exit_code == 4


def test_what_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="There is no key") as refused:
        read_key(tmp_path / "none")
    assert refused.value.exit_code == 3
    path = tmp_path / "text"
    path.write_text("hello")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="no Ed25519 key") as refused:
        read_key(path)
    assert refused.value.exit_code == 2
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_key(tmp_path)
    with pytest.raises(KeyFileError, match="cannot be written"):
        make_key(path / "below a file")


def test_the_default_is_in_the_persons_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_path(None) == tmp_path / ".config" / "isos" / "review-key.pem"
    assert key_path("~/k") == tmp_path / "k"

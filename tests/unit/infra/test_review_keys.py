"""Key files: made once, for their owner only, and refused in a sentence where they are not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.review_keys import KeyFileError, key_path, make_key, read_key, read_or_make_key, read_owned


def test_a_key_is_made_for_its_owner_only_and_never_again(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ann.pem"
    private_key = make_key(path)
    assert (len(private_key), read_key(path)) == (32, private_key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyFileError, match="exists already") as refused:
        make_key(path)
    assert (refused.value.exit_code, read_key(path)) == (4, private_key)


def test_a_person_finds_their_key_again(tmp_path: Path) -> None:
    assert read_or_make_key(tmp_path / "a") == read_or_make_key(tmp_path / "a")
    assert read_or_make_key(tmp_path / "a") != read_or_make_key(tmp_path / "b")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ann.pem"
    make_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=f"is open to others; `chmod 600 {path}` closes it") as refused:
        read_key(path)
    assert refused.value.exit_code == 4
    path.chmod(0o400)
    assert len(read_key(path)) == 32


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    path, asked = tmp_path / "ann.pem", []

    def unlock(key: Path) -> bytes:
        asked.append(key)
        return b"correct horse"

    private_key = read_or_make_key(path, lock=unlock)
    assert b"ENCRYPTED" in path.read_bytes()
    assert read_key(path, unlock) == private_key == read_or_make_key(path, unlock, unlock)
    assert asked == [path] * 3
    with pytest.raises(KeyFileError, match="That is not the passphrase of") as refused:
        read_key(path, lambda _: b"battery staple")
    assert refused.value.exit_code == 4
    with pytest.raises(KeyFileError, match="has a passphrase, and nobody is there") as refused:
        read_key(path)
    assert refused.value.exit_code == 4


def test_a_key_without_a_passphrase_is_not_asked_for_one_and_gets_none_later(tmp_path: Path) -> None:
    path = tmp_path / "ann.pem"

    def unlock(key: Path) -> bytes:
        raise AssertionError(key)

    private_key = read_or_make_key(path, unlock)
    assert read_key(path, unlock) == private_key
    with pytest.raises(KeyFileError, match=f"without a passphrase; `openssl pkcs8 -topk8 -in {path} -out NEW`") as late:
        read_or_make_key(path, unlock, unlock)
    assert late.value.exit_code == 4


def test_a_passphrase_that_is_refused_leaves_no_key(tmp_path: Path) -> None:
    def lock(key: Path) -> bytes:
        raise KeyFileError("too short", 2)

    with pytest.raises(KeyFileError, match="too short"):
        read_or_make_key(tmp_path / "ann.pem", lock=lock)
    assert list(tmp_path.iterdir()) == []


def test_other_secrets_are_told_by_their_name(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=f"There is no passphrase file {tmp_path / 'p'}"):
        read_owned(tmp_path / "p", "passphrase file")


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

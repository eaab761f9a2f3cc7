"""Private keys of people: files in PEM that only their owner may read, with a passphrase or without."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from streams.errors import IsosError
from streams.signing import SEED_BYTES, from_pem, is_locked, to_pem

DEFAULT_FILE: Final = "~/.config/isos/review-key.pem"
OWNER_ONLY: Final = 0o600
MAX_FILE_BYTES: Final = 4_096

Unlock = Callable[[Path], bytes]
"""Gives the passphrase of a key's file; asked only where the key has one. Raises KeyFileError where it has none."""


class KeyFileError(IsosError):
    """A key file cannot be used: a sentence for the person, and the exit code."""

    def __init__(self, sentence: str, exit_code: int = 6) -> None:
        super().__init__(sentence, exit_code)
        self.sentence = sentence
        self.exit_code = exit_code

    def __str__(self) -> str:
        return self.sentence


def key_path(given: Path | str | None) -> Path:
    """The file that is meant: the given one, or the person's own."""
    return Path(given or DEFAULT_FILE).expanduser()


def make_key(path: Path, passphrase: bytes = b"") -> bytes:
    """Make a private key (32 bytes) and write it, readable by its owner only. Raises KeyFileError where a file stands.

    A key that is there already is never overwritten: what it signs would be lost.
    """
    private_key = secrets.token_bytes(SEED_BYTES)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, mode=0o700)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(number, "wb") as file:
            file.write(to_pem(private_key, passphrase))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if path.is_file():
            raise KeyFileError(f"The key {path} exists already; name another file with --key", exit_code=4) from None
        raise KeyFileError(f"The key {path} cannot be written: {error.strerror}") from error
    return private_key


def read_owned(path: Path, what: str) -> bytes:
    """What stands in a file that holds a secret. Raises KeyFileError where it cannot be read, or others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        raise KeyFileError(f"There is no {what} {path}", exit_code=3) from None
    except OSError as error:
        raise KeyFileError(f"The {what} {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(f"The {what} {path} is open to others; `chmod 600 {path}` closes it", exit_code=4)
    return content


def read_key(path: Path, unlock: Unlock | None = None) -> bytes:
    """The private key (32 bytes) of a file.

    Raises KeyFileError where there is none, others may read it, or it has a passphrase that ``unlock`` does not know.
    """
    try:
        pem = read_owned(path, "key")
    except KeyFileError as error:
        if error.exit_code != 3:
            raise
        how = "`isos reviews keygen --name NAME` makes one, the setting review_key_file (or --key) names another"
        raise KeyFileError(f"There is no key {path}; {how}", exit_code=3) from None
    passphrase = b""
    if is_locked(pem):
        if unlock is None:
            raise KeyFileError(f"The key {path} has a passphrase, and nobody is there to be asked for it", exit_code=4)
        passphrase = unlock(path)
    try:
        return from_pem(pem, passphrase)
    except ValueError:
        if passphrase:
            raise KeyFileError(f"That is not the passphrase of {path}", exit_code=4) from None
        raise KeyFileError(f"{path} holds no Ed25519 key in PEM", exit_code=2) from None


def read_or_make_key(path: Path, unlock: Unlock | None = None, lock: Unlock | None = None) -> bytes:
    """The private key of a file, made where there is none; then ``lock`` gives the passphrase that it is to have.

    Raises KeyFileError as ``read_key`` and ``make_key``, and where a key stands without the passphrase it should have.
    """
    if not path.exists():
        return make_key(path, b"" if lock is None else lock(path))
    if lock is not None and not is_locked(read_owned(path, "key")):
        how = f"`openssl pkcs8 -topk8 -in {path} -out NEW` writes it anew with one, for --key NEW"
        raise KeyFileError(f"The key {path} exists already, without a passphrase; {how}", exit_code=4)
    return read_key(path, unlock)

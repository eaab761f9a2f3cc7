"""Private keys of people and of our processes: files in PEM that only their owner may read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from streams.errors import IsosError
from streams.signing import SEED_BYTES, from_pem, to_pem

DEFAULT_FILE: Final = "~/.config/isos/review-key.pem"
OWNER_ONLY: Final = 0o600


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


def make_key(path: Path) -> bytes:
    """Make a private key (32 bytes) and write it, readable by its owner only. Raises KeyFileError where a file stands.

    A key that is there already is never overwritten: what it signs would be lost.
    """
    private_key = secrets.token_bytes(SEED_BYTES)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, mode=0o700)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(number, "wb") as file:
            file.write(to_pem(private_key))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if path.is_file():
            raise KeyFileError(f"The key {path} exists already; name another file with --key", exit_code=4) from None
        raise KeyFileError(f"The key {path} cannot be written: {error.strerror}") from error
    return private_key


def read_key(path: Path) -> bytes:
    """The private key (32 bytes) of a file. Raises KeyFileError where there is none, or others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read(4_096)
    except FileNotFoundError:
        how = "`isos reviews keygen --name NAME` makes one, --key names another"
        raise KeyFileError(f"There is no key {path}; {how}", exit_code=3) from None
    except OSError as error:
        raise KeyFileError(f"The key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(f"The key {path} can be read by others; `chmod 600 {path}`", exit_code=4)
    try:
        return from_pem(pem)
    except ValueError:
        raise KeyFileError(f"{path} holds no Ed25519 key in PEM without a passphrase", exit_code=2) from None


def read_or_make_key(path: Path) -> bytes:
    """The private key of a process of ours, made on its first start."""
    return read_key(path) if path.exists() else make_key(path)

"""Passphrases of key files: from a file that only its owner may read, or asked for on the terminal."""

from __future__ import annotations

import functools
import getpass
import signal
import threading
from pathlib import Path
from typing import Final

from infra.review_keys import KeyFileError, Unlock, read_owned

MIN_CHARACTERS: Final = 8
MAX_BYTES: Final = 1_000
"""OpenSSL, which ``cryptography`` hands them to, takes 1,023."""


def unlock_by(file: str | Path | None) -> Unlock:
    """What knows a key's passphrase: ``file``, or the person at the terminal where none is named."""
    return functools.partial(passphrase_of, file=file)


def passphrase_of(key: Path, file: str | Path | None = None) -> bytes:
    """The passphrase of a key that has one. Raises KeyFileError where there is neither a file nor a terminal."""
    return _from_file(file) if file else _asked(f"Passphrase of {key}: ", f"The key {key} has a passphrase")


def new_passphrase(key: Path, file: str | Path | None = None) -> bytes:
    """A passphrase for a key that is to be made: the file's, or the same asked for twice.

    Raises KeyFileError where it is too short or too long, the two differ, or there is nobody to ask.
    """
    if file:
        passphrase = _from_file(file)
    else:
        passphrase = _asked(f"New passphrase of {key}: ", "A passphrase is wanted")
        if passphrase != _asked("The same again: ", "A passphrase is wanted"):
            raise KeyFileError("The two passphrases differ; no key was made", exit_code=2)
    if len(passphrase.decode(errors="replace")) < MIN_CHARACTERS or len(passphrase) > MAX_BYTES:
        sentence = f"A passphrase has at least {MIN_CHARACTERS} characters and at most {MAX_BYTES} bytes"
        raise KeyFileError(f"{sentence}; no key was made", exit_code=2)
    return passphrase


def _from_file(file: str | Path) -> bytes:
    """The first line of a file, without its end."""
    path = Path(file).expanduser()
    passphrase = read_owned(path, "passphrase file").partition(b"\n")[0].removesuffix(b"\r")
    if not passphrase:
        raise KeyFileError(f"The first line of the passphrase file {path} is empty", exit_code=2)
    return passphrase


def _asked(prompt: str, why: str) -> bytes:
    try:
        Path("/dev/tty").open("rb").close()
    except OSError:
        how = "--passphrase-file or the setting review_passphrase_file names a file that holds it"
        raise KeyFileError(f"{why}, and there is no terminal to ask on; {how}", exit_code=4) from None
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if is_main:  # an event loop's handler would let the first Ctrl-C pass
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = getpass.getpass(prompt).encode()
    except EOFError:
        answer = b""
    except UnicodeError:  # its text would show a part of the passphrase
        raise KeyFileError("The passphrase is not UTF-8, as this terminal sends it", exit_code=4) from None
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)
    if not answer:
        raise KeyFileError("No passphrase was given", exit_code=4)
    return answer

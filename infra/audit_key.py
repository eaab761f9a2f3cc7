"""The key that signs the audit log's heads, and the newest head noted beside it: two small files in ``keys``.

The key is made at the Orchestrator's first start and readable by its account only. Who loses it revokes the old one
(``isos reviews revoke orchestrator``); the next start makes another. The note is what tells that the log's end was cut
off, so it is worth copying somewhere else from time to time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from infra.settings import Settings, StartError
from streams.link_check import head_text, parse_head
from streams.memory_view import MemoryHead
from streams.signing import SEED_BYTES, public_key_of

KEY_FILE: Final = "audit.ed25519"
HEAD_FILE: Final = "audit.head"


def audit_key(settings: Settings) -> bytes:
    """The private key (32 bytes); made where there is none.

    Raises:
        StartError: when the file cannot be read or made, or holds no key.
    """
    path = settings.data_dir / "keys" / KEY_FILE
    try:
        if not path.exists():
            _write(path, secrets.token_hex(SEED_BYTES), replace=False)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The audit log's key {path} cannot be had: {error}.") from error
    with contextlib.suppress(ValueError):
        seed = bytes.fromhex(text)
        if len(seed) == SEED_BYTES:
            return seed
    raise StartError(f"The audit log's key {path} is no key: it has 64 hexadecimal digits.")


def public_key_here(settings: Settings) -> str:
    """The public key of the private one in this data directory; empty where there is none, or it cannot be read."""
    try:
        text = (settings.data_dir / "keys" / KEY_FILE).read_text(encoding="utf-8")
        return public_key_of(bytes.fromhex(text.strip()))
    except (OSError, ValueError):  # an auditor's account need not read the private key
        return ""


def note_head(settings: Settings, head: MemoryHead) -> None:
    """Note the newest head. Raises OSError."""
    _write(settings.data_dir / "keys" / HEAD_FILE, head_text(head), replace=True)


def noted_head(settings: Settings) -> MemoryHead | None:
    """The head that was noted here; None where there is none, or none that can be read."""
    try:
        return parse_head((settings.data_dir / "keys" / HEAD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Write a file whole or not at all, for this account only; without ``replace`` the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, text.encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    if replace:
        draft.replace(path)
        return
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()

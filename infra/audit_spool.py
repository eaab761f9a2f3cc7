"""Audit records on disk: of commands that start or stop the broker itself, or that found none to tell.

One file per record in ``audit-spool`` of the data directory, in the order of their names. The Orchestrator of that
directory records them when it runs next, and removes them; a record that it has already is not recorded again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.settings import Settings
from schemas.audit import AuditRecord
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError

log = logging.getLogger(__name__)

FOLDER: Final = "audit-spool"
MAX_BYTES: Final = 262_144
MAX_FILES: Final = 100
MAX_SPOOLED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Spooled:
    """A record and the file that it stands in."""

    path: Path
    record: AuditRecord


def spool(settings: Settings, record: AuditRecord) -> None:
    """Write a record whole or not at all. Raises OSError, also when ``MAX_SPOOLED`` wait already."""
    folder = settings.data_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sum(1 for _ in folder.glob("*.json")) >= MAX_SPOOLED:
        raise OSError(errno.EDQUOT, f"{MAX_SPOOLED} records wait already")
    order = 0 if record.phase == "before" else 1
    path = folder / f"{record.timestamp_us:020d}-{order}-{record.operation_id[:64]}.json"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(to_json(record), encoding="utf-8")
    draft.replace(path)


def spooled(settings: Settings) -> list[Spooled]:
    """Records that wait, oldest first, at most ``MAX_FILES``; what is none is set aside under another name."""
    from streams.codec import encode_body

    found: list[Spooled] = []
    for path in sorted((settings.data_dir / FOLDER).glob("*.json"))[:MAX_FILES]:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise PoisonRecordError("garbage", f"it is larger than {MAX_BYTES} bytes")
            record = from_json(AuditRecord, path.read_text(encoding="utf-8"), newer=True)
            encode_body(AuditRecord.__name__, record)  # JSON has texts and numbers that the log cannot hold
            found.append(Spooled(path, record))
        except (PoisonRecordError, ValueError, OverflowError) as error:
            log.error("%s is no audit record and is set aside: %s", path, error)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".unreadable"))
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
    return found


def remove(records: list[Spooled]) -> None:
    """Remove what is recorded."""
    for each in records:
        with contextlib.suppress(OSError):
            each.path.unlink()

"""Commands to the Orchestrator from the command line: for the version that stands, under an id of their content."""

from __future__ import annotations

import hashlib
from typing import Final

from schemas.memory import MemoryCommand
from streams.memory_view import MemoryView, rejection
from streams.review_view import environment, review_of

AGENT: Final = "cli"


def command_of(kind: str, key: str, body: str, reason: str, view: MemoryView, now_us: int) -> MemoryCommand:
    """A command for the version that stands; its id follows from both, so sending it twice is once.

    One that was refused before gets another id, or the old refusal would answer it; so does one that waits for a
    sandbox's policy where that holds no more.
    """
    entry = view.entries.get(key)
    version = 0 if entry is None else entry.version
    identity = _identity(key, body, version, 0)
    if rejection(view, identity) is not None or _is_stranded(view, identity):
        identity = _identity(key, body, version, view.sequence)
    return MemoryCommand(identity, AGENT, kind, key, version, body, reason, (), now_us)


def _is_stranded(view: MemoryView, identity: str) -> bool:
    review, where = review_of(view, identity), environment(view)
    if review is None or review.request.policy != "development" or where is None:
        return False
    return not (where.is_sandbox and where.development_policy)


def _identity(key: str, body: str, version: int, salt: int) -> str:
    digest = hashlib.sha256(f"{key}\n{body}\n{version}\n{salt}".encode()).hexdigest()[:32]
    return f"{key.partition('/')[0]}-{digest}"

"""A log handler that writes the same line once a second and says how many it held back.

While the broker is away its clients complain at every attempt, some hundred times a second and process, and what else a
process has to say drowns in it. A line of a library is the same as another one of its template; ours are the same when
they read the same, for their templates are few and their arguments are the news.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TextIO

EVERY_S: Final = 1.0
LIBRARIES: Final = ("faust", "aiokafka", "mode", "asyncio", "kafka")
MAX_KINDS: Final = 1_000
"""Kinds of line that are remembered; then all are told and forgotten."""


@dataclass(slots=True)
class _Kind:
    """What became of one kind of line since it was last written."""

    record: logging.LogRecord
    written_s: float
    num_held: int = 0


class PacedHandler(logging.StreamHandler[TextIO]):
    """Writes a kind of line once in ``EVERY_S``; ``clock_s`` in seconds, monotonic.

    The last of those held back is written, with their number, when the next line of any kind comes after that time, and
    at the end.
    """

    def __init__(self, stream: TextIO | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sys.stderr if stream is None else stream)
        self._clock_s = clock_s
        self._kinds: dict[object, _Kind] = {}
        self._next_look_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        now_s = self._clock_s()
        key = _key(record)
        kind = self._kinds.get(key)
        if now_s >= self._next_look_s or (kind is not None and now_s >= kind.written_s + EVERY_S):
            self._tell(now_s)
            self._next_look_s = now_s + EVERY_S
        kind = self._kinds.get(key)
        if kind is not None:
            kind.num_held += 1
            kind.record = record
            return
        if len(self._kinds) >= MAX_KINDS:
            self._tell(now_s, forget=True)
        self._kinds[key] = _Kind(record, now_s)
        super().emit(record)

    def close(self) -> None:
        """Tell what is held back still."""
        self.acquire()
        try:
            self._tell(0.0, forget=True)
        finally:
            self.release()
        super().close()

    def _tell(self, now_s: float, *, forget: bool = False) -> None:
        """Write what was held back of every kind that was written a while ago, or of all; forget what did not recur."""
        for key, kind in list(self._kinds.items()):
            if not forget and now_s < kind.written_s + EVERY_S:
                continue
            if kind.num_held:
                self._say_held(kind)
                kind.written_s, kind.num_held = now_s, 0
            else:
                del self._kinds[key]
        if forget:
            self._kinds.clear()

    def _say_held(self, kind: _Kind) -> None:
        last = kind.record
        text = f"{last.getMessage()} [the last of {kind.num_held} more of these]"
        super().emit(logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, text, None, None))


def _key(record: logging.LogRecord) -> object:
    library = record.name.partition(".")[0] in LIBRARIES
    return record.name, record.levelno, record.msg if library else record.getMessage()

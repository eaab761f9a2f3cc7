"""Rows of ordered models that left their tick, and those behind them: a line per partition, model and key; pure.

A row that waits (for an earlier result, for the blob store) must not be passed by later rows of its key, so these wait
behind it. What is ready at the front of a line leaves in one go; the line stands until that was handed to the producer,
since a row of the next tick would else pass it in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.committed import Holder, Progress
from streams.edge.request_row import row_bytes
from streams.frame_builder import Row


class Waiting(Protocol):
    """A row in a line; ``is_ready`` once nothing but the line holds it."""

    holder: Holder
    row: Row
    is_ready: bool
    is_lined_up: bool


@dataclass(eq=False, slots=True)
class _Line:
    rows: deque[tuple[Any, int]] = field(default_factory=deque)  # with the bytes that each was counted as
    is_leaving: bool = False


_Key = tuple[Progress, str, bytes]


class KeyLines:
    """The lines of one edge. ``is_open``: rows may leave; not while a tick's own rows are on their way out.

    ``num_rows`` and ``num_bytes`` stand in them.
    """

    def __init__(self) -> None:
        self._lines: dict[_Key, _Line] = {}
        self.is_open = True
        self.num_rows = 0
        self.num_bytes = 0

    def __bool__(self) -> bool:
        """Whether there is a line."""
        return bool(self._lines)

    def holds(self, progress: Progress, row: Row) -> bool:
        """Whether rows of a row's key wait."""
        return (progress, row.model, row.routing_key) in self._lines

    def join(self, late: Waiting) -> None:
        """Put a row at the end of its line."""
        late.is_lined_up = True
        size = row_bytes(late.row)
        self._lines.setdefault(_key(late), _Line()).rows.append((late, size))
        self.num_rows += 1
        self.num_bytes += size

    def take(self, is_current: Callable[[Progress], bool]) -> list[Any]:
        """The ready rows at the front of each line, which is held until ``left``; lines of other generations go."""
        for key in [key for key in self._lines if not is_current(key[0])]:
            rows = self._lines.pop(key).rows
            while rows:
                self._pop(rows)
        if not self.is_open:
            return []
        taken: list[Any] = []
        for line in self._lines.values():
            if line.is_leaving or not _has_ready(line):
                continue
            line.is_leaving = True
            while _has_ready(line):
                taken.append(self._pop(line.rows))
        return taken

    def left(self, rows: Iterable[Waiting]) -> None:
        """What was taken is with the producer."""
        for key in {_key(late) for late in rows}:
            line = self._lines.get(key)
            if line is not None:
                line.is_leaving = False
                if not line.rows:
                    del self._lines[key]

    def _pop(self, rows: deque[tuple[Any, int]]) -> Any:
        late, size = rows.popleft()
        self.num_rows -= 1
        self.num_bytes -= size
        return late


def _has_ready(line: _Line) -> bool:
    return bool(line.rows) and bool(line.rows[0][0].is_ready)


def _key(late: Waiting) -> _Key:
    return late.holder[0], late.row.model, late.row.routing_key

"""Progress on stderr for long work: bars on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def shown_progress() -> AbstractContextManager[Progress]:
    """A progress to hand inwards, shown while the context lasts."""
    return _Bars() if sys.stderr.isatty() else nullcontext(_silent)


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


class _Bars(AbstractContextManager[Progress]):
    """One bar per kind of work, gone when it is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        self._bars = Bars(console=Console(stderr=True), transient=True)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        self._bars.start()
        return self._show

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def _show(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done)

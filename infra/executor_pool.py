"""The stack's part of scaling: starts and ends executors of a pool until there are as many as are wanted.

The supervisor, in the control process, says how many (``infra/launcher.py``). It is not asked whether it lives: without
a new word the number stays. The highest instances are ended first; a process that is told to end finishes what it has
begun, commits and leaves its group, so that the others read on where it stopped.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from infra.launcher import asked_for
from infra.pools import Pool
from infra.process import Process
from infra.settings import Settings

POLL_S: Final = 0.2

Start = Callable[[int], Process]
"""Starts the executor of an instance and supervises it."""
Forget = Callable[[Process], Awaitable[None]]
"""Called when a process has been told to end: returns when it is gone, and drops it."""


@dataclass(slots=True)
class ExecutorPool:
    """``running``: executors by number in the pool, those that end included; ``wanted``: how many there should be.

    ``changed`` is called when another number is wanted.
    """

    settings: Settings
    pool: Pool
    start: Start
    forget: Forget
    changed: Callable[[], None]
    wanted: int
    running: dict[int, Process] = field(default_factory=dict)
    ending: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    async def follow(self) -> None:
        """Do what is asked for until cancelled."""
        while True:
            asked = asked_for(self.settings, self.pool.name)
            if asked is not None:
                self.reconcile(min(max(0, asked), self.pool.most))
            await asyncio.sleep(POLL_S)

    def reconcile(self, wanted: int) -> None:
        """Start what is missing, end what is too much; one that still ends is started anew when it is gone."""
        if wanted != self.wanted:
            self.wanted = wanted
            self.changed()
        missing, surplus = changes(wanted, self.running, self.ending)
        for number in missing:
            self.running[number] = self.start(self.pool.first + number)
        for number in surplus:
            name = f"ending {self.running[number].spec.name}"
            self.ending[number] = asyncio.create_task(self._end(number), name=name)

    async def _end(self, number: int) -> None:
        process = self.running[number]
        process.ask_to_stop()
        gone = asyncio.ensure_future(self.forget(process))
        try:
            await asyncio.wait({gone}, timeout=process.spec.stop_s)
            if not gone.done():
                process.ask_to_stop(signal.SIGKILL)
            await gone
        finally:
            gone.cancel()
            self.running.pop(number, None)
            self.ending.pop(number, None)

    async def stop(self) -> None:
        """Start and end nothing more; whoever calls ends the processes."""
        ending = list(self.ending.values())
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


def changes(
    wanted: int, running: Mapping[int, object], ending: Mapping[int, object]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers to start, and those to end, the highest first."""
    missing = tuple(number for number in range(wanted) if number not in running)
    surplus = tuple(number for number in sorted(running, reverse=True) if number >= wanted)
    return missing, tuple(number for number in surplus if number not in ending)

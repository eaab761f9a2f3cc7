"""Supervise one child process: start, readiness, restart with back-off, clean stop.

A child has its own process group, writes to its own log, and is killed by the kernel when its supervisor dies, however
that happens (``PR_SET_PDEATHSIG``). The only module that starts long-running processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
FIRST_DELAY_S: Final = 0.2
LAST_DELAY_S: Final = 10.0
LIVED_S: Final = 1.0
HEALTHY_S: Final = 30.0
FROZEN_S: Final = 10.0
_POLL_S: Final = 0.02
_LOG_LIMIT_BYTES: Final = 64 << 20

Ready = Callable[[int], Awaitable[bool]]
"""Tells whether the process with this pid is ready; must not block."""


class Phase(StrEnum):
    """Where a supervised process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run: ``name`` (also in reports), arguments, whole environment, log file, readiness, time to stop."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_path: Path
    ready: Ready
    stop_s: float = 5.0
    before_start: Callable[[], None] | None = None


@dataclass(slots=True)
class Process:
    """One supervised child. ``supervise`` runs until ``stop``; the other members are read by whoever reports."""

    spec: ProcessSpec
    restart_frozen: bool = False
    phase: Phase = Phase.WAITING
    pid: int | None = None
    num_restarts: int = 0
    started_s: float = 0.0
    ready_s: float | None = None
    last_exit: int | None = None
    on_change: Callable[[], None] = lambda: None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def supervise(self) -> None:
        """Keep the child running until told to stop: restart it after 0.2 s, doubling to 10 s while it fails.

        A child that lived and ended with status 0 was asked to end, for a restart: its successor starts at once.
        """
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            started = time.monotonic()
            await self.run_once()
            if self._stopping.is_set():
                break
            lived_s = time.monotonic() - started
            if lived_s >= HEALTHY_S:
                delay_s = FIRST_DELAY_S
            self.num_restarts += 1
            self._enter(Phase.BACKING_OFF)
            if self.last_exit == 0 and lived_s >= LIVED_S:
                delay_s = FIRST_DELAY_S
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            delay_s = min(delay_s * 2, LAST_DELAY_S)
        self._enter(Phase.STOPPED)

    async def wait_ready(self) -> None:
        """Return when the child is ready for the first time."""
        await self._ready.wait()

    def ask_to_stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop restarting, and send ``number`` to the child's group; a stopped group is woken to see it."""
        self._stopping.set()
        if self.pid is not None:
            signal_group(self.pid, number)
            signal_group(self.pid, signal.SIGCONT)

    async def run_once(self) -> None:
        """Start the child and return when it has ended; ``last_exit`` then holds its status, negative for a signal."""
        try:
            child = await self._spawn()
        except OSError as error:
            self.last_exit = 127
            with _open_log(self.spec.log_path) as log:
                log.write(f"cannot start {self.spec.argv[0]}: {error}\n".encode())
            return
        self.pid = child.pid
        self.started_s = time.time()
        self.ready_s = None
        self._enter(Phase.STARTING)
        if self._stopping.is_set():  # stop was asked for while the child was being made
            signal_group(child.pid, signal.SIGTERM)
        watcher = asyncio.create_task(self._watch(child.pid))
        try:
            self.last_exit = await child.wait()
        finally:
            watcher.cancel()
            signal_group(child.pid, signal.SIGKILL)  # what the child left behind in its group
            self.pid = None

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.spec.before_start is not None:
            self.spec.before_start()
        with _open_log(self.spec.log_path) as log:
            return await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env=dict(self.spec.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=die_with_parent(os.getpid()),
            )

    async def _watch(self, pid: int) -> None:
        while not await self.spec.ready(pid):
            await asyncio.sleep(_POLL_S)
        self.ready_s = time.time()
        self._enter(Phase.READY)
        self._ready.set()
        if self.restart_frozen:
            await self._kill_when_frozen(pid)

    async def _kill_when_frozen(self, pid: int) -> None:
        since: float | None = None
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            since = (since or now) if process_state(pid) == "T" else None
            if since is not None and now - since >= FROZEN_S:
                signal_group(pid, signal.SIGKILL)
                return

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.on_change()


def die_with_parent(parent_pid: int) -> Callable[[], None]:
    """Make a ``preexec_fn`` that has the kernel kill the child when its parent, ``parent_pid``, dies."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent_pid:  # the parent died before the call above
            os._exit(1)

    return prepare


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group led by ``pid``; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def process_state(pid: int) -> str | None:
    """Read the state letter of a process (R, S, D, T, Z ...), or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is not a zombie."""
    return process_state(pid) not in (None, "Z", "X")


def ready_file(path: Path) -> Ready:
    """Make a readiness predicate: the JSON file at ``path`` exists and holds the child's pid."""

    async def ready(pid: int) -> bool:
        try:
            return bool(json.loads(path.read_text()).get("pid") == pid)
        except (OSError, ValueError, AttributeError):
            return False

    return ready


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")

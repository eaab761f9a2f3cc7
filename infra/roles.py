"""Entry of every process of ours: ``python -m infra.roles ROLE --instance N``.

Sets up what all share (event loop, log, settings, signals, readiness file) and runs one role until it is told to stop.
Exit status 0 after a stop, 1 after a defect, 75 when the broker or a claim was lost and a restart is the remedy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from infra.health import BEAT_S, start_ticks
from infra.paced_log import PacedHandler
from infra.settings import Settings, StartError, load_settings
from streams.connection import Connection
from streams.errors import IsosError, RetriableError
from streams.predecessor import MemberNote

log = logging.getLogger("isos")

TRY_AGAIN = 75
GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Rows and frames hold no cycles and go by themselves; a search for cycles that walks an edge's ids is a pause."""
DRAIN_S = 4.0


@dataclass(frozen=True, slots=True)
class RoleContext:
    """What a role is given. ``ready`` is called once, when it serves; ``defect`` ends the process loudly.

    A role may add to ``drains`` what finishes its work when it is told to stop; it has four seconds for it.
    """

    settings: Settings
    connection: Connection
    role: str
    instance: int
    ready: Callable[[], None]
    defect: Callable[[BaseException], None]
    drains: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the process, as in its log and readiness file."""
        return os.environ.get("ISOS_PROCESS_NAME") or f"{self.role}-{self.instance}"

    @property
    def member(self) -> MemberNote:
        """Where the process notes who it is in its consumer group."""
        return MemberNote(self.settings.run_dir / f"{self.name}.member")

    def member_of(self, agent: str) -> MemberNote:
        """Where the process notes who it is in the consumer group of one of its agents."""
        return MemberNote(self.settings.run_dir / f"{self.name}.{agent}.member")

    @property
    def predecessors(self) -> list[MemberNote]:
        """What the process before this one noted of itself, in whichever groups it was."""
        return [self.member, *map(MemberNote, sorted(self.settings.run_dir.glob(f"{self.name}.*.member")))]


Role = Callable[[RoleContext], Awaitable[None]]


async def together(*jobs: Awaitable[Any]) -> None:
    """Run jobs until the first one fails, then end the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


ROLES: Final = {
    "provision": "services",
    "registry": "services",
    "orchestrator": "control_plane",
    "control": "control_plane",
    "edge": "data_plane",
    "router": "data_plane",
    "executor": "data_plane",
    "validator": "data_plane",
}
"""Module of ``infra`` that composes each role, under the role's name."""


def role_of(name: str) -> Role:
    """The coroutine function of a role; imports only what that role needs."""
    role: Role = getattr(importlib.import_module(f"infra.{ROLES[name]}"), name)
    return role


def announce_ready(settings: Settings, name: str) -> None:
    """Write the readiness file that the supervisor and the health check watch."""
    gc.collect()
    gc.freeze()  # what start-up made lives on; later collections need not walk it
    gc.set_threshold(*GC_THRESHOLDS)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    path = _readiness_file(settings, name)
    draft = path.with_suffix(".tmp")
    pid = os.getpid()
    draft.write_text(json.dumps({"pid": pid, "start_ticks": start_ticks(pid), "ready_us": time.time_ns() // 1000}))
    draft.replace(path)
    log.info("ready")


def _readiness_file(settings: Settings, name: str) -> Path:
    return settings.run_dir / f"{name}.ready"


async def _beat(path: Path) -> None:
    """Touch the readiness file as long as the event loop turns; see ``infra.health``."""
    while True:
        await asyncio.sleep(BEAT_S)
        with contextlib.suppress(OSError):  # not ready yet, or a full disk
            os.utime(path)


async def _drain(running: asyncio.Future[None], context: RoleContext) -> None:
    """Let the role finish what it has begun; what does not end in time is done again by whoever comes next."""
    draining = asyncio.gather(*(drain() for drain in context.drains), return_exceptions=True)
    either: set[asyncio.Future[Any]] = {running, draining}
    await asyncio.wait(either, timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
    log.info("drained" if draining.done() else "stopped with work under way")
    draining.cancel()


async def _run(context: RoleContext) -> None:
    """Say goodbye for the process before this one, where it died, and be the role.

    The goodbye comes before the imports, which take longest of a start: the others of the group wait for it. What they
    should know of the death stands before they get its partitions.
    """
    if context.role == "executor":
        from executors.crash_log import CrashLog

        CrashLog(context.settings.run_dir, context.name).close()
    await asyncio.gather(*(note.leave(context.connection) for note in context.predecessors))
    await role_of(context.role)(context)


async def _main(role_name: str, instance: int, settings: Settings) -> int:
    stop = asyncio.Event()
    defects: list[BaseException] = []

    def defect(error: BaseException) -> None:
        defects.append(error)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    name = os.environ.get("ISOS_PROCESS_NAME") or f"{role_name}-{instance}"
    context = RoleContext(
        settings, Connection(settings.bootstrap), role_name, instance, lambda: announce_ready(settings, name), defect
    )
    beating = asyncio.ensure_future(_beat(_readiness_file(settings, name)))
    running = asyncio.ensure_future(_run(context))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    beating.cancel()
    if not running.done():
        if context.drains and not defects:
            await _drain(running, context)
        running.cancel()
        await asyncio.wait({running}, timeout=8)
    if running.done() and not running.cancelled() and running.exception() is not None:
        defects.append(running.exception() or RuntimeError())
    if not defects:
        return 0
    if isinstance(defects[0], RetriableError):
        log.error("%s; the process starts anew", defects[0])
        return TRY_AGAIN
    log.error("stopped by a defect", exc_info=defects[0])
    return 1


def main() -> int:
    """Run one role; see the module's text for the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.roles", description="Run one process of ML-ISOS.")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--instance", type=int, default=0, help="number of this instance of the role")
    given = parser.parse_args()
    # Numba loads SciPy's linear algebra where it is installed: 0.3 s of each start, and no kernel of ours multiplies.
    sys.modules["scipy"] = None  # type: ignore[assignment]
    logging.basicConfig(
        level=os.environ.get("ISOS_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)-7s %(name)s %(message)s",
        handlers=[PacedHandler()],
    )
    for noisy in ("faust", "aiokafka", "mode"):
        logging.getLogger(noisy).setLevel(os.environ.get("ISOS_LIBRARY_LOG_LEVEL", "WARNING"))
    try:
        settings = load_settings()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(_main(given.role, given.instance, settings))
    except (StartError, IsosError) as error:
        log.error("%s", error)
        status = 1
    logging.shutdown()
    os._exit(status)  # libraries leave threads behind that would delay or hang the exit


if __name__ == "__main__":
    main()

"""What is known about a stack outside its supervisor: the lock, the state file, and figures from /proc."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.pools import pool_named, pools
from infra.process import Process, process_state
from infra.settings import Settings, StartError, unwritable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """One row of ``isos status``. ``cpu_percent`` is of one core, over the sampling time; None: no process."""

    name: str
    pid: int | None
    phase: str
    restarts: int
    rss_mb: float | None
    cpu_percent: float | None
    uptime_s: float | None
    log: str


@dataclass(frozen=True, slots=True)
class PoolReport:
    """How many processes of a pool there should be and may be at most, how many run, and how many of these serve."""

    pool: str
    wanted: int
    most: int
    running: int
    ready: int


@dataclass(frozen=True, slots=True)
class StackReport:
    """What ``isos status`` knows without asking the broker."""

    running: bool
    ready: bool
    supervisor_pid: int | None
    data_dir: str
    uptime_s: float | None
    processes: tuple[ProcessReport, ...]
    pools: tuple[PoolReport, ...] = ()


@contextlib.contextmanager
def claim(settings: Settings) -> Iterator[None]:
    """Hold the data directory's lock; the kernel releases it when the holder dies.

    Raises:
        StartError: when the folder cannot be written, or another supervisor holds the lock.
    """
    try:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        handle = (settings.run_dir / "supervisor.lock").open("a+")
    except OSError as error:
        raise unwritable(settings, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = read_state(settings).get("supervisor", {}).get("pid")
            raise StartError(
                f"A stack is already running in {settings.data_dir} (process {pid}); stop it with `isos down`."
            ) from error
        yield


def is_running(settings: Settings) -> bool:
    """Tell whether a supervisor holds the lock of the data directory."""
    try:
        handle = (settings.run_dir / "supervisor.lock").open("r")
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_state(
    settings: Settings,
    begun_s: float,
    is_ready: bool,
    processes: Sequence[Process],
    wanted: Mapping[str, int] | None = None,
) -> None:
    """Replace ``run/stack.json``; times are microseconds since the epoch. ``wanted``: executors by pool."""
    wishes = {pool.name: pool.at_start for pool in pools(settings)} | dict(wanted or {})
    document = {
        "supervisor": {"pid": os.getpid(), "started_us": int(begun_s * 1e6)},
        "ready": is_ready,
        "pools": {pool.name: {"wanted": wishes[pool.name], "most": pool.most} for pool in pools(settings)},
        "processes": [
            {
                "name": process.spec.name,
                "pid": process.pid,
                "phase": str(process.phase),
                "restarts": process.num_restarts,
                "started_us": int(process.started_s * 1e6),
                "ready_us": None if process.ready_s is None else int(process.ready_s * 1e6),
                "last_exit": process.last_exit,
                "log": str(process.spec.log_path),
            }
            for process in processes
        ],
    }
    path = settings.run_dir / "stack.json"
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(document, indent=1))
    draft.replace(path)


def read_state(settings: Settings) -> dict[str, Any]:
    """Read ``run/stack.json``; empty when no stack was ever started here."""
    try:
        document = json.loads((settings.run_dir / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def report_stack(settings: Settings, sample_s: float = 0.2) -> StackReport:
    """Describe the stack of the data directory; takes ``sample_s`` to measure the CPU time of a running one."""
    state = read_state(settings)
    running = is_running(settings)
    rows: list[dict[str, Any]] = state.get("processes", [])
    before = {row["pid"]: _cpu_s(row["pid"]) for row in rows if running and row["pid"]}
    if before:
        time.sleep(sample_s)
    supervisor = state.get("supervisor", {})
    return StackReport(
        running=running,
        ready=running and bool(state.get("ready")),
        supervisor_pid=supervisor.get("pid") if running else None,
        data_dir=str(settings.data_dir),
        uptime_s=round(time.time() - supervisor["started_us"] / 1e6, 1) if running and supervisor else None,
        processes=tuple(_report_process(row, running, before, sample_s) for row in rows),
        pools=tuple(_report_pool(settings, name, pool, rows) for name, pool in state.get("pools", {}).items())
        if running
        else (),
    )


def _report_pool(settings: Settings, name: str, pool: dict[str, int], rows: list[dict[str, Any]]) -> PoolReport:
    mine = set(pool_named(settings, name).names(pool["most"]))
    phases = [row["phase"] for row in rows if row["name"] in mine]
    return PoolReport(name, pool["wanted"], pool["most"], len(phases), phases.count("ready"))


def _report_process(row: dict[str, Any], running: bool, before: dict[int, float], sample_s: float) -> ProcessReport:
    pid = row["pid"] if running else None
    state = process_state(pid) if pid else None
    phase = row["phase"] if running else "stopped"
    if state == "T":
        phase = "frozen"
    return ProcessReport(
        name=row["name"],
        pid=pid,
        phase=phase,
        restarts=row["restarts"],
        rss_mb=round(_rss_bytes(pid) / 1e6, 1) if pid and state else None,
        cpu_percent=round(100 * (_cpu_s(pid) - before.get(pid, 0.0)) / sample_s, 1) if pid and state else None,
        uptime_s=round(time.time() - row["started_us"] / 1e6, 1) if pid else None,
        log=row["log"],
    )


def _cpu_s(pid: int) -> float:
    """Give the user and system time of a process in seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0

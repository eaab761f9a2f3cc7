"""CPU time and memory of processes, from ``/proc``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from infra.python_choice import probe

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: when (monotonic seconds), CPU seconds and resident bytes per process name; the gone ones are absent.

    ``system_s`` is the part of ``cpu_s`` that the kernel spent; ``machine_s``: what all processes of the machine used,
    and others of its host, since its start.
    """

    at_s: float
    cpu_s: Mapping[str, float]
    rss_bytes: Mapping[str, int]
    system_s: Mapping[str, float] = field(default_factory=dict)
    machine_s: float = 0.0


def sample(pids: Mapping[str, int], proc: Path = Path("/proc")) -> Sample:
    """Look at processes by name."""
    cpu: dict[str, float] = {}
    rss: dict[str, int] = {}
    system: dict[str, float] = {}
    for name, pid in pids.items():
        try:
            fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            rss[name] = int((proc / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES
        except OSError:
            continue
        cpu[name] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        system[name] = int(fields[12]) / _TICKS_PER_S
    return Sample(time.monotonic(), cpu, rss, system, machine_s(proc))


def machine_s(proc: Path = Path("/proc")) -> float:
    """Processor seconds of the machine that were not idle (``/proc/stat``: user, nice, system, irq, softirq, steal)."""
    try:
        fields = (proc / "stat").read_text().partition("\n")[0].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in (*fields[1:4], *fields[6:9])) / _TICKS_PER_S


def used_s(looks: Sequence[Sample]) -> dict[str, float]:
    """CPU seconds per process from the first look to the last one, by every process that lived in between.

    Of one that came meanwhile all counts, of one that went what it had when it was seen last.
    """
    used = dict.fromkeys(looks[0].cpu_s, 0.0) if looks else {}
    last = dict(looks[0].cpu_s) if looks else {}
    for look in looks[1:]:
        for name, cpu_s in look.cpu_s.items():
            before = last.get(name, 0.0)
            used[name] = used.get(name, 0.0) + (cpu_s - before if cpu_s >= before else cpu_s)
        last |= look.cpu_s
    return used


def cpu_percent(looks: Sequence[Sample]) -> dict[str, float]:
    """Percent of one core per process over some looks; nothing within no time."""
    elapsed = looks[-1].at_s - looks[0].at_s if looks else 0.0
    if elapsed <= 0:
        return {}
    return {name: round(100 * used / elapsed, 1) for name, used in used_s(looks).items()}


def child_id(word: str, parent: int, proc: Path = Path("/proc")) -> int | None:
    """Process id of a child of ``parent`` whose command line has ``word`` as one of its arguments; None without one."""
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[1]) == parent and word.encode() in arguments:
            return int(folder.name)
    return None


def machine() -> dict[str, Any]:
    """What the figures were taken on: processor, cores this process may use, memory, kernel, Python.

    ``python_loop_ms``: a fixed loop of Python, best of seven, because interpreters of one version differ by a third. It
    fits the processor's caches, so it does not show the slower hours of a shared machine.
    """
    found = probe(sys.executable)
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_field(Path("/proc/meminfo"), "MemTotal").split()[0] or 0) / 1e6, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_loop_ms": None if found is None else round(found.seconds * 1e3, 2),
    }


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "0"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")


def commit(folder: Path) -> str:
    """The commit of the working tree, with ``+`` when tracked files differ from it; empty outside of a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")

"""What the doctor looks at on this machine: settings, versions, Java, jars, disk, ports, leftovers, the GPU."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from infra.child_environment import child_environment
from infra.doctor_check import Check
from infra.java import MIN_JAVA, JarError, check_jars, find_java, java_version
from infra.process import process_state
from infra.settings import ROOT, Settings, StartError
from infra.settings_check import check_data_dir, check_settings
from infra.stack_check import MIN_FREE_BYTES, check_ports
from infra.stack_state import is_running, read_state

LOW_BYTES: Final = 5 << 30
"""Frames and results of a busy hour; below it the disk may fill while nobody looks."""
MIN_GLIBC: Final = (2, 28)
PYTHONS: Final = ((3, 11), (3, 13))
GPU_TIMEOUT_S: Final = 35.0
SAID_CHARS: Final = 300
_PIN: Final = re.compile(r"^([A-Za-z0-9_.\-]+)==([^\s;\\]+)", re.MULTILINE)


def settings(given: Settings | None, flags: Mapping[str, Any]) -> list[Check]:
    """Settings that are wrong together, or odd."""
    del given
    found = check_settings(flags)
    if not found:
        return [Check("settings", "ok", "All settings are valid and fit together.")]
    remedy = "`isos config show --origin` says where each value comes from."
    return [Check("settings", "fail" if each.level == "error" else "warn", each.sentence, remedy) for each in found]


def versions(given: Settings) -> list[Check]:
    """Python, the C library, and the installed packages against the lock."""
    del given
    python, library = sys.version_info[:2], platform.libc_ver()
    checks = []
    if not PYTHONS[0] <= python <= PYTHONS[1]:
        checks.append(
            Check("python", "fail", f"Python is {platform.python_version()}; 3.11 to 3.13 is needed.",
                  "`make PYTHON=python3.12 setup`")
        )  # fmt: skip
    if library[0] != "glibc" or tuple(map(int, library[1].split(".")[:2])) < MIN_GLIBC:
        name = " ".join(library).strip() or "unknown"
        checks.append(Check("glibc", "fail", f"The C library is {name}; glibc 2.28 is needed.", "Use a newer system."))
    checks += packages(ROOT / "requirements.txt")
    if any(each.state != "ok" for each in checks):
        return checks
    return [Check("versions", "ok", f"Python {platform.python_version()}, {' '.join(library)}, packages as locked.")]


def packages(lock: Path) -> list[Check]:
    """Installed packages that are not the locked ones, and the one that must not be there."""
    checks = []
    installed = {name.lower().replace("_", "-"): v for name, v in _installed()}
    if "onnxruntime" in installed:
        what = "The package onnxruntime is installed beside onnxruntime-gpu: CUDA is gone with it."
        fix = "`pip uninstall onnxruntime && pip install --force-reinstall onnxruntime-gpu`"
        checks.append(Check("versions", "fail", what, fix))
    if lock.exists():
        locked: dict[str, set[str]] = {}  # several where the version of Python decides
        for name, version in _PIN.findall(lock.read_text(encoding="utf-8")):
            locked.setdefault(name.lower().replace("_", "-"), set()).add(version)
        wrong = [
            f"{name} {installed[name]} (locked: {' or '.join(sorted(versions))})"
            for name, versions in locked.items()
            if name in installed and installed[name] not in versions
        ]
        if wrong:
            named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            checks.append(
                Check("versions", "warn", f"Installed packages differ from the lock: {named}.", "`make setup`")
            )
    return checks


def _installed() -> list[tuple[str, str]]:
    return [
        (each.metadata["Name"], each.version) for each in importlib.metadata.distributions() if each.metadata["Name"]
    ]


def java(given: Settings) -> list[Check]:
    """A runtime that the broker can be started with; not needed with an outside broker."""
    if given.brokers:
        return [Check("java", "ok", "No Java is needed: the broker is an outside one (setting brokers).")]
    found = find_java()
    if found is None:
        on_path = shutil.which("java")
        old = f"; {on_path} is version {java_version(on_path) or 'unknown'}" if on_path else ""
        return [
            Check("java", "fail", f"No Java {MIN_JAVA} or newer was found (JAVA_HOME, PATH){old}.",
                  "`make setup` installs one; or set brokers to a Kafka that runs.")
        ]  # fmt: skip
    return [Check("java", "ok", f"Java {java_version(found)} at {found}.")]


def jars(given: Settings) -> list[Check]:
    """The broker's jars against the committed sums."""
    if given.brokers:
        return []
    if not any(given.jars_dir.glob("*.jar")):
        return [Check("jars", "fail", f"The broker's jars are not in {given.jars_dir}.", "`make setup`")]
    try:
        check_jars(given.jars_dir)
    except (JarError, OSError) as error:
        remedy = f"`rm -r {given.jars_dir} && make setup` fetches them anew."
        return [Check("jars", "fail", str(error).replace("; nothing was installed", ""), remedy)]
    return [Check("jars", "ok", f"The jars in {given.jars_dir} are the committed ones.")]


def disk(given: Settings) -> list[Check]:
    """Room where the data is, found out by writing too."""
    remedy = "Free some space, or set data_dir to another disk; `isos topics list` shows what is kept for how long."
    try:
        free = shutil.disk_usage(check_data_dir(given)).free
    except StartError as error:
        return [Check("disk", "fail", str(error), remedy)]
    except OSError as error:
        return [Check("disk", "fail", f"The disk of {given.data_dir} cannot be asked: {error.strerror}.", remedy)]
    size = f"{free / (1 << 30):.1f} GiB" if free >= 1 << 30 else f"{free >> 20} MiB"
    sentence = f"The disk of the data directory {given.data_dir} has {size} left"
    if free < MIN_FREE_BYTES:
        return [Check("disk", "fail", f"{sentence}; under 1 GiB nothing is started.", remedy)]
    if free < LOW_BYTES:
        return [Check("disk", "warn", f"{sentence}; under 5 GiB a busy hour may fill it.", remedy)]
    return [Check("disk", "ok", f"{sentence}.")]


def ports(given: Settings) -> list[Check]:
    """Ports are ours, or free."""
    if is_running(given):
        return [Check("ports", "ok", "The stack of this data directory holds its ports.")]
    try:
        check_ports(given)
    except StartError as error:
        return [Check("ports", "fail", str(error), "`isos config show --origin` says where the port comes from.")]
    return [Check("ports", "ok", "The ports that a stack would use are free.")]


def stack(given: Settings) -> list[Check]:
    """A running stack's processes, or what a dead one left."""
    rows: list[dict[str, Any]] = read_state(given).get("processes", [])
    if is_running(given):
        bad = [_why(row) for row in rows if row["phase"] != "ready" or _is_stopped(row["pid"])]
        if bad:
            what = f"Processes are not ready: {'; '.join(bad)}."
            return [Check("stack", "warn", what, f"`isos status`; the logs are in {given.log_dir}.")]
        return [Check("stack", "ok", f"A stack runs with {len(rows)} processes, all ready.")]
    alive = [row for row in rows if row["pid"] and _is_ours(row)]
    if alive:
        named = ", ".join(f"{row['name']} ({row['pid']})" for row in alive)
        pids = " ".join(str(row["pid"]) for row in alive)
        what = f"The supervisor is gone and left processes behind: {named}."
        return [Check("stack", "fail", what, f"`kill {pids}`, then `isos up`.")]
    return [Check("stack", "ok", f"No stack of {given.data_dir} is running, and none left anything behind.")]


def _why(row: Mapping[str, Any]) -> str:
    """Name and phase of a process that is not ready, and the last thing it said."""
    try:
        with Path(row["log"]).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4_000))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    except (OSError, KeyError):
        lines = []
    said = f", which said: {lines[-1][:SAID_CHARS]}" if lines else ""
    return f"{row['name']} ({row['phase']}, {row.get('restarts', 0)} restarts){said}"


def _is_stopped(pid: int | None) -> bool:
    return pid is None or process_state(pid) in (None, "T")


def _is_ours(row: Mapping[str, Any]) -> bool:
    """Whether the process of that number is still the one of the state file: the number may be another's by now."""
    if process_state(row["pid"]) in (None, "Z"):
        return False
    try:
        environment = Path(f"/proc/{row['pid']}/environ").read_bytes()
        command = Path(f"/proc/{row['pid']}/cmdline").read_bytes()
    except OSError:
        return False
    return b"ISOS_" in environment or b"kafka.Kafka" in command or b"redis-server" in command


def gpu(given: Settings) -> list[Check]:
    """What the runtime claims beside what a session gets, found out in a child process."""
    argv = [sys.executable, "-m", "infra.gpu_probe"]
    environment = {**child_environment(given, os.environ), "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return [_no_gpu(given, f"A session on the GPU did not come up within {GPU_TIMEOUT_S:g} s")]
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        reason = (done.stderr.splitlines() or ["no message"])[-1]
        return [Check("gpu", "fail", f"ONNX Runtime cannot be loaded: {reason}.", "`make setup`")]
    return judged(given, json.loads(lines[-1]), device_files())


def device_files() -> list[str]:
    """Device files of NVIDIA GPUs on this machine."""
    return sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))


def judged(given: Settings, seen: Mapping[str, Any], devices: Sequence[str]) -> list[Check]:
    """The check of what the child saw: ``claims_cuda``, ``got_cuda``, ``version``."""
    runtime = f"ONNX Runtime {seen['version']}"
    if seen["got_cuda"]:
        used = "models run on it" if given.device != "cpu" else "the setting device = cpu leaves it alone"
        return [Check("gpu", "ok", f"{runtime} opens a session on the GPU; {used}.")]
    claim = "lists CUDA, but a session gets the CPU" if seen["claims_cuda"] else "has no CUDA"
    if given.device == "cuda" or (given.device == "auto" and devices):
        return [_no_gpu(given, f"{runtime} {claim}")]
    here = "" if devices else " and this machine has no NVIDIA device"
    return [Check("gpu", "ok", f"{runtime} {claim}{here}: models run on the CPU (setting device = {given.device}).")]


def _no_gpu(given: Settings, what: str) -> Check:
    remedy = "Install a CUDA 13 driver and `pip install 'onnxruntime-gpu[cuda,cudnn]'`, or set device to cpu."
    if given.device == "cuda":
        return Check("gpu", "fail", f"{what}; with device = cuda no executor starts.", remedy)
    return Check("gpu", "warn", f"{what}; models run on the CPU.", remedy)

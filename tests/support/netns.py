"""Run a command in a network namespace that has loopback and nothing else, and watch who looks for a way out of it.

``/etc/resolv.conf`` there names a server outside, so that a look-up of a name is an attempt to leave too. Each attempt,
a look-up's datagram or a connection, counts in ``OutNoRoutes`` of ``/proc/net/snmp`` of the namespace.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NAME_SERVER = "192.0.2.53"  # of the block reserved for documentation (RFC 5737)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_MS_BIND = 4096


@dataclass(frozen=True, slots=True)
class Observed:
    """What a command did in the namespace: exit status (None: ended here), counter before and after, time, output."""

    status: int | None
    before: int
    after: int
    seconds: float
    output: str


class NamespaceError(Exception):
    """No network namespace can be made on this machine; the text is one sentence."""


def observe(argv: Sequence[str], folder: Path, env: dict[str, str], limit_s: float, *, until_moved: bool) -> Observed:
    """Run ``argv`` in a namespace of its own, in ``folder``; with ``until_moved`` end it when the counter moves.

    Raises:
        NamespaceError: where no namespace can be made.
    """
    result = folder / "observed.json"
    inner = [sys.executable, "-m", "tests.support.netns", str(result), str(limit_s), str(int(until_moved)), *argv]
    environment = {**env, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*_unshare(), *inner], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NamespaceError(f"A network namespace cannot be set up: {done.stderr.strip()[-300:]}")
    return Observed(**json.loads(result.read_text()))


def out_no_routes() -> int:
    """Packets of this namespace that had no route."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:"))
    return int(values[names.index("OutNoRoutes")])


def _unshare() -> list[str]:
    problem = "the command unshare is missing"
    for flags in ("-nm", "-rnm"):
        try:
            tried = subprocess.run(["unshare", flags, "true"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            break
        if tried.returncode == 0:
            return ["unshare", flags]
        problem = tried.stderr.strip()
    raise NamespaceError(f"A network namespace cannot be made on this machine: {problem}")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def _name_a_server_outside(folder: str) -> None:
    path = Path(folder) / "resolv.conf"
    path.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(bytes(path), b"/etc/resolv.conf", None, _MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), f"/etc/resolv.conf cannot be replaced: {os.strerror(ctypes.get_errno())}")


def _run(argv: Sequence[str], limit_s: float, until_moved: bool) -> Observed:
    before, started = out_no_routes(), time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)
        while child.poll() is None and time.monotonic() - started < limit_s:
            if until_moved and out_no_routes() > before:
                break
            time.sleep(0.05)
        status, seconds = child.poll(), time.monotonic() - started
        if status is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        output.seek(0)
        return Observed(status, before, out_no_routes(), seconds, output.read()[-4000:])


def main(result: str, limit_s: str, until_moved: str, *argv: str) -> None:
    """Be the first process of the namespace."""
    with tempfile.TemporaryDirectory() as folder:
        _raise_loopback()
        _name_a_server_outside(folder)
        observed = _run(argv, float(limit_s), until_moved == "1")
    Path(result).write_text(json.dumps(asdict(observed)))


if __name__ == "__main__":
    main(*sys.argv[1:])

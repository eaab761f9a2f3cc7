"""What a stack has left behind: processes that carry its data directory, and ports on which somebody still listens."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from infra.process import is_alive


def processes_of(folder: Path) -> list[int]:
    """Give the ids of all living processes that carry ``folder`` in their environment or command line."""
    mark = str(folder).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (path / "environ").read_bytes() or mark in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return [pid for pid in found if is_alive(pid)]


def listening(ports: Iterable[int]) -> list[int]:
    """Give those of the TCP ports of loopback on which somebody listens."""
    found = []
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found

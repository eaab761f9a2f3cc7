"""The stack's own Redis: find the server, give the process to run. It holds nothing that must survive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from infra.process import ProcessSpec, Ready
from infra.settings import Settings, StartError

MAX_MEMORY: Final = "256mb"
EVICTION: Final = "volatile-ttl"
"""When it is full, what would expire first goes first: the window of request ids shrinks, marks and limits stay."""
_MAX_SOCKET_PATH: Final = 100  # sun_path holds 108 bytes


def find_redis(tools_dir: Path) -> tuple[str, dict[str, str]]:
    """Give the path of redis-server and the variables it needs: from PATH, or the copy that set-up unpacked.

    Raises:
        StartError: when there is none.
    """
    if on_path := shutil.which("redis-server"):
        return on_path, {}
    unpacked = tools_dir / "redis"
    server = unpacked / "usr" / "bin" / "redis-check-rdb"  # Debian's redis-server is a link to this file
    if server.exists():
        libraries = ":".join(str(path) for path in sorted(unpacked.glob("usr/lib/*-linux-gnu")))
        return str(unpacked / "usr" / "bin" / "redis-server"), {"LD_LIBRARY_PATH": libraries}
    raise StartError("redis-server was not found; run `make setup`, install redis-server, or set ISOS_REDIS_URL.")


def redis_process(settings: Settings) -> ProcessSpec:
    """Give Redis as a supervised process on loopback, without persistence; ready when it answers PING."""
    server, variables = find_redis(settings.tools_dir)
    argv = [
        server,
        *("--port", str(settings.redis_port), "--bind", "127.0.0.1"),
        *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        *("--maxmemory", MAX_MEMORY, "--maxmemory-policy", EVICTION),
        *("--dir", str(settings.run_dir)),
    ]
    socket = settings.run_dir / "redis.sock"
    if len(str(socket)) < _MAX_SOCKET_PATH:
        argv += ["--unixsocket", str(socket), "--unixsocketperm", "700"]
    return ProcessSpec(
        name="redis",
        argv=tuple(argv),
        env={**os.environ, **variables},
        log_path=settings.log_dir / "redis.log",
        ready=answers_redis("127.0.0.1", settings.redis_port),
        stop_s=5.0,
    )


def answers_redis(host: str, port: int) -> Ready:
    """Make a readiness predicate: the server answers PING."""

    async def ready(pid: int) -> bool:
        del pid
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False

    return ready

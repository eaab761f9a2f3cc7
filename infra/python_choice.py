"""Print the Python that set-up uses: the one of ``.venv``, else the first suitable one, unless another is much faster.

    python3 infra/python_choice.py

Interpreters of one minor version differ by up to a third in speed, by how they were compiled, and most of what a
request costs here is Python. So those on PATH are timed, once: afterwards there is a ``.venv``. Runs before anything is
installed: standard library only, and it parses on any Python 3.8.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

VENV = Path(__file__).resolve().parent.parent / ".venv"
NAMES = ("python3", "python3.12", "python3.13", "python3.11")
SYSTEM = "/usr/bin"
MUCH = 1.15
"""By so much another one must be faster than the first to be taken instead of it."""
PROBE_S = 20.0
# Says whether it is suitable (2: as it is, 1: without what makes environments, 0: not), and the seconds of a loop of
# calls, look-ups and small objects, which is what asyncio and Kafka's protocol are made of.
_PROBE = """
import importlib.util, sys, time
fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
whole = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
class Each:
    __slots__ = ("a",)
    def add(self, k):
        self.a = k
        return {"a": self.a, "b": (k, str(k))}
def loop():
    each = Each()
    begun = time.perf_counter()
    for k in range(30_000):
        each.add(k)["b"]
    return time.perf_counter() - begun
print(fits * (1 + whole), min([loop() for _ in range(7)]) if fits else 0.0, sys.executable)
"""


class Found(NamedTuple):
    """An interpreter: its path, whether it can make environments as it is, and the seconds of the probe's loop."""

    path: str
    is_whole: bool
    seconds: float


def main() -> int:
    """Print the path; 1 where there is no suitable one."""
    path = of_environment(VENV) or choice(
        [found for path in candidates(os.environ.get("PATH", "")) if (found := probe(path))]
    )
    print(path or "")
    return 0 if path else 1


def of_environment(folder: Path) -> str:
    """The interpreter that an environment was made with; nothing where there is none that works."""
    said = _said([str(folder / "bin" / "python"), "-c", "import sys; print(sys._base_executable)"])
    return said if said and Path(said).exists() else ""


def candidates(path: str) -> list[str]:
    """Interpreters on a PATH, each once, in the order in which a shell would find their names."""
    folders = [*filter(None, path.split(os.pathsep)), SYSTEM]
    found: dict[str, str] = {}
    for name in NAMES:
        for folder in folders:
            each = Path(folder) / name
            if each.is_file() and os.access(each, os.X_OK):
                found.setdefault(os.path.realpath(each), str(each))
    return list(found.values())


def probe(path: str) -> Found | None:
    """What an interpreter says of itself; None where it is not suitable or does not run."""
    fields = _said([path, "-I", "-c", _PROBE]).split(" ", 2)
    if len(fields) != 3 or fields[0] == "0":
        return None
    return Found(fields[2], fields[0] == "2", float(fields[1]))


def choice(found: list[Found]) -> str:
    """The first one that can make environments, else the first; the fastest such one, where it is ``MUCH`` faster."""
    whole = [each for each in found if each.is_whole] or found
    if not whole:
        return ""
    fastest = min(whole, key=lambda each: each.seconds)
    return (fastest if fastest.seconds * MUCH < whole[0].seconds else whole[0]).path


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=PROBE_S, check=False,
            universal_newlines=True,  # noqa: UP021 - older interpreters must get as far as the answer
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())

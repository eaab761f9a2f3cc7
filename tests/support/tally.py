"""Counts of several test runs: each appends a line to the file named by ``TEST_TALLY``; ``python -m`` prints the sum.

The last line that ``make test`` prints is about all its parts; seconds are theirs, also where two run at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """One run: the paths it was asked for, tests by outcome, seconds."""

    name: str
    passed: int
    failed: int
    seconds: float


def append(path: Path, part: Part) -> None:
    """Add a run to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(part)) + "\n")


def read(path: Path) -> list[Part]:
    """Read all runs of the file, in order."""
    return [Part(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(parts: Sequence[Part]) -> list[str]:
    """Compose a line per part, and the sum as the last one."""
    lines = [f"{part.name:<30} {part.passed:>5} passed in {part.seconds:6.1f} s" for part in parts]
    passed, failed = sum(part.passed for part in parts), sum(part.failed for part in parts)
    seconds = sum(part.seconds for part in parts)
    return [
        *lines,
        f"{failed} failed, {passed} passed in {seconds:.2f}s" if failed else f"{passed} passed in {seconds:.2f}s",
    ]


if __name__ == "__main__":
    print("\n".join(summary(read(Path(sys.argv[1])))))

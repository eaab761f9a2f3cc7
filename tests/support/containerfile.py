"""Read a Containerfile, and carry out its build stage on this machine, without a container engine.

Only what ours uses is understood; another instruction, or another form of one, is an AssertionError.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

KNOWN = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword and its argument, continuation lines joined with single spaces."""

    keyword: str
    argument: str

    @property
    def words(self) -> list[str]:
        """The argument as words; a JSON array gives its items."""
        return json.loads(self.argument) if self.argument.startswith("[") else shlex.split(self.argument)

    @property
    def pairs(self) -> dict[str, str]:
        """The argument of ENV or LABEL."""
        return dict(word.split("=", 1) for word in self.words)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: base image, name (empty for the last) and instructions behind FROM."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, keyword: str) -> list[Instruction]:
        """Every instruction of this keyword."""
        return [each for each in self.instructions if each.keyword == keyword]

    def last(self, keyword: str) -> Instruction:
        """The instruction of this keyword that counts."""
        return self.all(keyword)[-1]

    @property
    def env(self) -> dict[str, str]:
        """What the stage's ENV instructions set."""
        return {name: value for each in self.all("ENV") for name, value in each.pairs.items()}


def read_containerfile(text: str) -> list[Stage]:
    """Parse into stages, in order."""
    stages: list[tuple[list[str], list[Instruction]]] = []
    for line in _logical_lines(text):
        keyword, _, argument = line.partition(" ")
        assert keyword in KNOWN, line
        if keyword == "FROM":
            stages.append((argument.split(), []))
        else:
            stages[-1][1].append(Instruction(keyword, argument.strip()))
    return [Stage(head[0], head[2] if len(head) == 3 else "", tuple(body)) for head, body in stages]


def _logical_lines(text: str) -> Iterator[str]:
    whole = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        whole = f"{whole} {line.strip()}".strip()
        if whole.endswith("\\"):
            whole = whole[:-1].rstrip()
            continue
        yield whole
        whole = ""


def build_stage(stage: Stage, checkout: Path, root: Path, moved: Mapping[str, Path | str]) -> None:
    """Carry out a build stage: each COPY out of ``checkout``, each RUN as it stands there.

    ``moved`` says which folders of the image stand where on this machine; nothing else in a command is changed. In
    place of the base image there is a new environment of this interpreter below ``root``.
    """
    base = root / "base"
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True)
    env = {**os.environ, "PATH": f"{base / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(base)}
    folder = root
    for each in stage.instructions:
        if each.keyword == "ENV":
            env |= {name: relocate(value, moved) for name, value in each.pairs.items()}
        elif each.keyword == "WORKDIR":
            folder = Path(relocate(each.argument, moved))
            folder.mkdir(parents=True, exist_ok=True)
        elif each.keyword == "COPY":
            _copy(each.words, checkout, folder)
        else:
            assert each.keyword == "RUN", each
            command = ["bash", "-eu", "-c", relocate(each.argument, moved)]
            done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{each.argument}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def _copy(words: list[str], checkout: Path, folder: Path) -> None:
    *sources, target = words
    for source in sources:
        place = folder / target
        if (checkout / source).is_dir():
            shutil.copytree(checkout / source, place, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / source, place)


def relocate(text: str, moved: Mapping[str, Path | str]) -> str:
    """Replace each container path or address in ``text`` by its place here: in one pass, the longest wins."""
    names = sorted(moved, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)), lambda found: str(moved[found.group()]), text)

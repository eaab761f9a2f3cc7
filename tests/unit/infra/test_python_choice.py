"""Which Python set-up uses: the environment's, else the first suitable one, unless another is much faster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.python_choice import Found, candidates, choice, of_environment, probe


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("found", "path"),
    [
        ([], ""),
        ([Found("a", True, 1.0)], "a"),
        ([Found("a", True, 1.0), Found("b", True, 0.95)], "a"),  # noise is no reason
        ([Found("a", True, 1.0), Found("b", True, 0.8), Found("c", True, 0.7)], "c"),
        ([Found("a", True, 1.0), Found("b", False, 0.5)], "a"),  # it would have to be completed first
        ([Found("a", False, 1.0), Found("b", True, 1.5)], "b"),
        ([Found("a", False, 1.0), Found("b", False, 0.5)], "b"),
    ],
)
def test_the_first_whole_one_unless_another_is_much_faster(found: list[Found], path: str) -> None:
    assert choice(found) == path


def test_each_interpreter_on_the_path_once_in_the_order_of_a_shell(tmp_path: Path) -> None:
    mine, other = script(tmp_path / "b" / "python3", ""), script(tmp_path / "c" / "python3.11", "")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "python3").symlink_to(mine)
    (tmp_path / "c" / "python3.12").write_text("not executable")
    found = candidates(os.pathsep.join(str(tmp_path / name) for name in ("a", "", "b", "c")))
    assert found[:1] == [str(tmp_path / "a" / "python3")]
    assert str(other) in found
    assert not {str(mine), str(tmp_path / "c" / "python3.12")} & set(found)


def test_an_interpreter_says_whether_it_fits_and_how_fast_it_is(tmp_path: Path) -> None:
    found = probe(sys.executable)
    assert found is not None
    assert found.seconds > 0
    assert Path(found.path).samefile(sys.executable)
    assert probe(str(script(tmp_path / "old", "echo 0 0.0 old"))) is None
    assert probe(str(script(tmp_path / "broken", "exit 3"))) is None
    assert probe(str(tmp_path / "absent")) is None


def test_what_an_environment_was_made_with_is_kept(tmp_path: Path) -> None:
    assert of_environment(tmp_path) == ""
    base = of_environment(Path(sys.prefix))
    assert Path(base).exists()
    assert Path(base).parent != Path(sys.prefix) / "bin"


def test_the_command_prints_a_path() -> None:
    command = [sys.executable, str(Path(__file__).parents[3] / "infra" / "python_choice.py")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert probe(said) is not None

"""The command line answers at once and imports a noun only when it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import COMMANDS, LazyGroup, app

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def isos(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    command = [sys.executable, "-m", "infra.cli", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_help_lists_the_nouns() -> None:
    done = isos("--help")
    assert done.returncode == 0
    assert COMMANDS["up"] in done.stdout
    assert COMMANDS["status"] in done.stdout


def test_the_help_names_every_exit_code() -> None:
    said = isos("--help").stdout
    assert [code for code in range(8) if f"{code} " not in said] == []


def test_the_version_is_the_packages() -> None:
    done = isos("--version")
    assert (done.returncode, done.stdout) == (0, f"isos {version('ml-isos')}\n")


@pytest.mark.parametrize("noun", COMMANDS)
def test_every_command_has_help_with_an_example_and_no_noise(noun: str) -> None:
    command = LazyGroup(name="isos").get_command(None, noun)
    assert command.help
    verbs = list(getattr(command, "commands", {}).values())
    for each in verbs or [command]:
        said = CliRunner().invoke(app, [noun, *([each.name] if verbs else []), "--help"]).stdout
        assert "Examples:\n" in said, each.name
        assert "  isos " in said.split("Examples:", 1)[1]
        assert noun in said.split("Examples:", 1)[1]
        assert "completion" not in said


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom infra.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit: pass\n"
        "print([n for n in ('pydantic', 'numpy', 'aiokafka', 'rich.table', 'infra.settings') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_takes_under_150_ms_of_cpu() -> None:
    def cpu_s() -> float:
        before = os.times()
        assert isos("--help").returncode == 0
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(cpu_s() for _ in range(3)) < 0.15


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nonsense"], 2, "No such command"),
        (["--set", "partitions", "status"], 2, "NAME=VALUE"),
        (["--set", "partitions=none", "status"], 2, "ISOS_PARTITIONS"),
        (["--data-dir", "/proc/nowhere", "up"], 6, "data_dir"),
    ],
)
def test_mistakes_have_a_sentence_and_a_code(arguments: list[str], code: int, word: str) -> None:
    done = isos(*arguments)
    assert done.returncode == code
    assert word in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_argument_that_is_no_text_is_a_sentence() -> None:
    command = [sys.executable, "-m", "infra.cli", "explain", b"\xff"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "An argument is not UTF-8.\n")

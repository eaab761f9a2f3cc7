"""The wheel in somebody else's environment: the client, its three packages and what those need, and nothing of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support.served import MODEL
from tests.support.stack import RunningStack

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "support" / "user_program.py"
CLIENT = ("aiokafka", "fastavro", "numpy")
pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ISOS_"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**kept, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def needed(names: tuple[str, ...]) -> set[str]:
    """These distributions and all that they require here, by their normal names."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found.add(name)
            lines = [line for line in distribution(name).requires or () if "extra ==" not in line]
            waiting += [match.group() for line in lines if (match := re.match(r"[A-Za-z0-9._-]+", line))]
    return found


def restricted_lock(names: set[str]) -> str:
    """The blocks of the lock file that pin these packages, hashes and all."""
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / "requirements.txt").read_text())
    chosen = [block for block in blocks if block.partition("==")[0] in names]
    assert {block.partition("==")[0] for block in chosen} == names
    return "\n".join(chosen) + "\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the last commit, built from a clean checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and the client's packages."""
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder / "venv", with_pip=True)
    interpreter = folder / "venv" / "bin" / "python"
    (folder / "client.txt").write_text(restricted_lock(needed(CLIENT)))
    pip = (interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps")
    run(*pip, "--require-hashes", "-r", folder / "client.txt", cwd=folder)
    run(*pip, "--no-index", wheel, cwd=folder)
    run(interpreter, "-m", "pip", "check", cwd=folder)  # what the wheel asks for is all there
    return interpreter


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROGRAM, tmp_path / "program.py"))


def test_a_users_program_passes_mypy_strict(python: Path, program: Path) -> None:
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", program.parent)
    assert "Success" in run(*mypy, program.name, cwd=program.parent)


def test_a_users_mistake_is_found_by_mypy(python: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("from isos import Client\n\nreveal_type(Client(tenant=7).codec)\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert '"tenant" to "Client" has incompatible type "int"' in done.stdout
    assert 'Revealed type is "streams.codec.Codec"' in done.stdout


def test_the_programs_of_the_readme_pass_mypy_strict(python: Path, tmp_path: Path) -> None:
    part = (ROOT / "README.md").read_text().partition("## Quick start from Python")[2].partition("\n## ")[0]
    programs = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    assert len(programs) == 2
    for number, text in enumerate(programs):
        (tmp_path / f"program{number}.py").write_text(text)
    files = [f"program{number}.py" for number in range(len(programs))]
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", tmp_path)
    assert "Success" in run(*mypy, *files, cwd=tmp_path)


def test_it_runs_against_a_stack_without_anything_of_the_server(
    python: Path, program: Path, whole_stack: RunningStack
) -> None:
    text = run(python, program, MODEL, cwd=program.parent, ISOS_BROKERS=whole_stack.settings.bootstrap)
    assert json.loads(text) == {
        "asynchronous": [1, 10, 20, 20, 1],
        "synchronous": ["OK", "OK", "OK"],
        "server": [],
    }


def test_the_command_says_what_to_install(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python.parent / "isos", "status"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The command isos needs the server's packages: pip install 'ml-isos[server]'.\n"

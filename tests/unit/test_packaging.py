"""What is installed, what is locked, and what the import law forbids."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER_MODULES = (
    *("faust", "mode", "numba", "onnx", "onnxruntime", "redis", "confluent_kafka", "pydantic", "typer", "rich"),
    *("aiohttp", "sklearn", "uvloop", "avro", "agents", "executors", "infra"),
)
OURS = ("schemas", "streams", "agents", "executors", "infra", "isos")


def test_no_other_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    assert {name: owners[name] for name in OURS if set(owners.get(name, ())) - {"ml-isos"}} == {}


def test_the_cpu_only_runtime_is_absent() -> None:
    # It overwrites the shared folder of onnxruntime-gpu and silently removes CUDA.
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("onnxruntime")
    assert importlib.metadata.version("onnxruntime-gpu").startswith("1.31.")


def test_the_pinned_packages_are_the_installed_ones() -> None:
    assert importlib.metadata.version("aiokafka") == "0.14.0"
    assert importlib.metadata.version("faust-streaming") == "0.15.3"


def test_the_lock_has_a_hash_for_everything_and_no_address() -> None:
    text = (ROOT / "requirements.txt").read_text()
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text)
    packages = [block for block in blocks if "==" in block.splitlines()[0]]
    assert len(packages) > 60
    assert [block.splitlines()[0] for block in packages if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert "index-url" not in text


def test_the_lock_names_what_is_asked_for() -> None:
    lock = (ROOT / "requirements.txt").read_text()
    asked = [re.match(r"[A-Za-z0-9-]+", line) for line in (ROOT / "requirements.in").read_text().splitlines()]
    names = [match.group() for match in asked if match]
    assert [name for name in names if f"\n{name}==" not in f"\n{lock}"] == []


def test_what_the_package_depends_on_is_asked_for_with_the_same_bounds() -> None:
    asked = set((ROOT / "requirements.in").read_text().splitlines())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["server"]
    assert [name for name in wanted if name not in asked] == []


def test_the_client_depends_on_three_packages_and_its_modules_import_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[a-z]+", name) for name in project["dependencies"]]
    assert [name.group() for name in names if name] == ["aiokafka", "fastavro", "numpy"]
    code = "import sys, isos; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(SERVER_MODULES) & set(ast.literal_eval(done.stdout)) == set()


def test_agents_import_nothing_of_the_outside_world() -> None:
    """In a fresh interpreter, because this one has it all loaded; import-linter checks the same on the source."""
    code = (
        "import sys, pathlib, importlib\n"
        "for path in sorted(pathlib.Path('agents').glob('[!_]*.py')): importlib.import_module(f'agents.{path.stem}')\n"
        "print([n for n in ('aiokafka','faust','redis','onnxruntime','confluent_kafka') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

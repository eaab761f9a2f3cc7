"""Set-up: the list of what is missing comes first, and each failure is one sentence."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import bootstrap

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def listing(**variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ISOS_NO_INSTALL": "1", **variables}
    command = [sys.executable, "-m", "infra.bootstrap"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("name", ["bootstrap.py", "compiled.py", "java.py", "setup_step.py"])
def test_only_the_standard_library_is_imported(name: str) -> None:
    tree = ast.parse((ROOT / "infra" / name).read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {module.split(".")[0] for module in imported} - {"infra"}
    assert roots <= set(sys.stdlib_module_names)
    ours = {module for module in imported if module.startswith("infra")}
    assert ours <= {"infra.compiled", "infra.java", "infra.setup_step"}


def test_the_list_alone_installs_nothing_and_names_what_is_missing(tmp_path: Path) -> None:
    done = listing(PATH=str(tmp_path), JAVA_HOME="", HOME=str(tmp_path))
    assert done.returncode == 6
    assert "missing: a Java runtime, 17 or newer" in done.stderr
    assert "missing: redis-server" in done.stderr
    assert "+ " not in done.stderr


def test_servers_that_run_already_are_not_needed(tmp_path: Path) -> None:
    done = listing(PATH=str(tmp_path), ISOS_BROKERS="b:1", ISOS_REDIS_URL="redis://r")
    assert "Java" not in done.stderr
    assert "redis-server" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("system", "Darwin", "Linux x86_64"),
        ("machine", "aarch64", "Linux x86_64"),
    ],
)
def test_another_system_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str, word: str) -> None:
    monkeypatch.setattr(bootstrap.platform, name, lambda: value)
    with pytest.raises(bootstrap.SetupError, match=word):
        bootstrap.check_platform()


def test_an_old_c_library_and_an_old_python_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(bootstrap.SetupError, match=r"glibc 2\.28"):
        patch.setattr(bootstrap.platform, "libc_ver", lambda: ("glibc", "2.17"))
        bootstrap.check_platform()
    with monkeypatch.context() as patch, pytest.raises(bootstrap.SetupError, match=r"glibc 2\.28"):
        patch.setattr(bootstrap.platform, "libc_ver", lambda: ("", ""))
        bootstrap.check_platform()
    with monkeypatch.context() as patch, pytest.raises(bootstrap.SetupError, match=r"Python 3\.11"):
        patch.setattr(bootstrap.sys, "version_info", (3, 10, 0))
        bootstrap.check_platform()


def test_without_root_the_rest_is_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(bootstrap.SetupError, match="sudo apt-get install -y python3-venv maven$"):
        bootstrap.install_system(["python3-venv", "java", "maven"])


def test_the_time_it_took_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path / "data"))
    bootstrap.record(3.456, 1.234)
    document = json.loads((tmp_path / "data" / "setup.json").read_text())
    assert (document["setup_s"], document["download_s"]) == (3.46, 1.23)


def test_preparation_is_wanted_until_both_are_there_and_the_kernels_are_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, ran = tmp_path / "kernels", []
    folder.mkdir()
    kernels = folder / "scores.py"
    kernels.write_text("one")
    for name, value in (("TOOLS", tmp_path), ("sources", lambda: [kernels])):
        monkeypatch.setattr(bootstrap, name, value)

    def run(command: list[str], sentence: str, environment: dict[str, str], cwd: Path) -> None:
        ran.append(environment["NUMBA_CACHE_DIR"])
        (tmp_path / "digits").mkdir(exist_ok=True)
        (tmp_path / "digits" / "manifest.json").touch()

    monkeypatch.setattr(bootstrap, "run", run)
    bootstrap.prepare()
    bootstrap.prepare()
    assert ran == [str(tmp_path / "numba")] * 2  # kernels and model, once
    kernels.write_text("another")
    bootstrap.prepare()
    assert len(ran) == 4


def test_a_failed_preparation_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "TOOLS", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "none")
    with pytest.raises(bootstrap.SetupError, match="cannot be"):
        bootstrap.prepare()
    assert "compiled kernels and the demonstration's model" in [item.what for item in bootstrap.find_missing()]

"""What the set-up of the Node.js reader does without Node.js, and that its lock names no address."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.setup_step import SetupError
from tests.support import node


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Commands and packages asked for, in order; nothing is really installed."""
    asked: list[list[str]] = []

    def note(command: list[str], *_: object, **__: object) -> None:
        asked.append(command)

    monkeypatch.setattr(node, "FOLDER", tmp_path / "node")
    monkeypatch.setattr(node, "install_system", note)
    monkeypatch.setattr(node, "run", note)
    return asked


def versions(*majors: int) -> Callable[[], int]:
    left = list(majors)
    return lambda: left.pop(0)


def test_what_is_missing_is_installed_first(monkeypatch: pytest.MonkeyPatch, installed: list[list[str]]) -> None:
    monkeypatch.setattr(node, "node_version", versions(0, 20))
    node.prepare()
    assert installed[0] == ["nodejs", "npm"]
    assert installed[1][:2] == ["npm", "ci"]


def test_a_system_with_an_old_node_only_says_so(monkeypatch: pytest.MonkeyPatch, installed: list[list[str]]) -> None:
    monkeypatch.setattr(node, "node_version", versions(12, 12))
    with pytest.raises(SetupError, match=r"Node\.js 18 or newer"):
        node.prepare()
    assert installed == [["nodejs", "npm"]]


def test_what_is_there_is_not_installed_again(monkeypatch: pytest.MonkeyPatch, installed: list[list[str]]) -> None:
    monkeypatch.setattr(node, "node_version", lambda: 20)
    monkeypatch.setattr(node.shutil, "which", lambda name: f"/usr/bin/{name}")
    first = node.prepare()
    (second,) = installed
    assert second[:2] == ["npm", "ci"]
    assert node.prepare() == first
    assert len(installed) == 1


def test_the_lock_is_exact_and_names_no_address() -> None:
    text = (node.SOURCE / "package-lock.json").read_text()
    assert "://" not in text
    lock, package = json.loads(text), json.loads((node.SOURCE / "package.json").read_text())
    for name, version in package["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
        assert lock["packages"][f"node_modules/{name}"]["integrity"]

"""`isos models golden` without a broker, and how a set is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import infra.commands.golden
from infra.commands.golden import row_of
from infra.commands.models import app
from schemas.check import GoldenSet
from schemas.model import ModelVersion, TensorSpec

SET = GoldenSet("digits", "ab" * 32, 4_000, 540, "labels", "classes", 950_000)
FACTS = ModelVersion(
    "digits", "v1.0.0", "ab" * 32, 10, (TensorSpec("image", "UINT8", (4,)),), (TensorSpec("classes", "INT64", (3,)),)
)


def test_a_set_as_people_read_it() -> None:
    assert row_of(SET) == {
        "model": "digits", "rows": 540, "bytes": 4_000, "kind": "labels", "output": "classes", "min_accuracy": 0.95,
        "tolerance": 0.0, "digest": "abababababab",
    }  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command line would hear from memory; a change is noted as done."""
    heard: dict[str, Any] = {"stands": (FACTS, None), "changes": 0}

    def controlled(settings: object, kind: type, work: Any) -> Any:
        del settings, kind
        if work.__name__ == "stands":
            return heard["stands"]
        heard["changes"] += 1
        return None

    monkeypatch.setattr(infra.commands.golden, "controlled", controlled)
    return heard


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["golden", "digits", *arguments])


def test_what_stands_is_shown(asked: dict[str, Any]) -> None:
    missing = run()
    assert (missing.exit_code, "digits has no golden set." in missing.stderr) == (3, True)
    asked["stands"] = (FACTS, SET)
    shown = run("--output", "json")
    assert (shown.exit_code, '"rows": 540' in shown.stdout, asked["changes"]) == (0, True, 0)


def test_a_file_is_noted_and_a_wrong_one_is_a_sentence(tmp_path: Path, asked: dict[str, Any]) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, image=np.zeros((3, 4), np.uint8), labels=np.arange(3))
    done = run("--data", str(path), "--output", "json")
    assert (done.exit_code, '"min_accuracy": 0.95' in done.stdout, asked["changes"]) == (0, True, 1)
    np.savez(path, image=np.zeros((3, 4)), labels=np.arange(3))
    wrong = run("--data", str(path))
    assert wrong.exit_code == 2
    assert f"{path} is no golden set for digits v1.0.0: image is float64 [3, 4]" in wrong.stderr
    gone = run("--data", str(tmp_path / "nothing.npz"))
    assert (gone.exit_code, "cannot be read: No such file" in gone.stderr, asked["changes"]) == (3, True, 1)


def test_a_broker_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = run()
    assert (done.exit_code, "The broker does not answer" in done.stderr) == (6, True)

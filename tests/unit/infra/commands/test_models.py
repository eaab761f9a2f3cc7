"""`isos models` without a broker: what is wrong with the files is said before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.commands.models import app
from infra.registration import RefusedError
from tests.support import models


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, RefusedError):
        raise done.exception
    return done.exit_code, done.stderr


def named(folder: Path, manifest: str) -> list[object]:
    (folder / "m.toml").write_text(manifest)
    return ["--name", "model", "--version", "v1.0.0", "--manifest", folder / "m.toml"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    code, said = invoke("register", tmp_path / "absent.onnx", *named(tmp_path, ""))
    assert code == 3
    assert "absent.onnx cannot be read" in said


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(models.identity())
    code, said = invoke("register", tmp_path / "m.onnx", *named(tmp_path, "colour = 1"))
    assert code == 2
    assert "m.toml: inputs: Field required" in said


def test_a_model_of_another_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(models.identity())
    tensor = '[{{name = "{}", datatype = "FP32", shape = [-1, 4]}}]'
    text = f"inputs = {tensor.format('a')}\noutputs = {tensor.format('y')}"
    with pytest.raises(RefusedError, match="the manifest's inputs are a"):
        invoke("register", tmp_path / "m.onnx", *named(tmp_path, text))

"""Two commands beside each other: output in their order, the first failure as the status, nothing left behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.support.beside import run


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def test_the_quiet_ones_output_comes_after_the_loud_ones(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ended = tmp_path / "ended"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(ended)!r}).exists(): time.sleep(0.01)"
    quiet = python(f"import os, pathlib; print('quiet', os.nice(0)); pathlib.Path({str(ended)!r}).touch()")
    assert run(quiet, python(f"{wait}\nprint('loud')")) == 0
    assert capfd.readouterr().out.split() == ["loud", "quiet", "19"]


def test_the_quiet_ones_failure_is_the_status() -> None:
    assert run(python("raise SystemExit(3)"), python("")) == 3


def test_where_the_loud_one_fails_the_quiet_one_is_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = tmp_path / "began"
    quiet = python(f"import pathlib, time; pathlib.Path({str(began)!r}).touch(); time.sleep(600)")
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(began)!r}).exists(): time.sleep(0.01)"
    since = time.monotonic()
    assert run(quiet, python(f"{wait}\nraise SystemExit(2)")) == 2
    assert time.monotonic() - since < 60
    assert capfd.readouterr().out == ""

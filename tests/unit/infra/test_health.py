"""The health check: a process is healthy when the one that wrote the readiness file runs and still touches it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.health import MAX_SILENCE_S, main, start_ticks, unhealthy_because
from tests.support.stack import wait_until


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def written(folder: Path, pid: int, **changed: Any) -> Path:
    path = folder / "run" / "edge-0.ready"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "start_ticks": start_ticks(pid), "ready_us": 1, **changed}))
    return path


def test_a_process_that_runs_and_stirs_is_healthy(tmp_path: Path) -> None:
    assert unhealthy_because(written(tmp_path, os.getpid()), time.time()) is None


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"pid": null}'])
def test_without_a_whole_readiness_file_it_is_not_ready(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "edge-0.ready"
    if text is not None:
        path.write_text(text)
    assert unhealthy_because(path, time.time()) == "it is not ready yet"


def test_a_process_that_is_gone_is_not_healthy(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    path = written(tmp_path, child.pid)
    child.kill()
    child.wait()
    assert start_ticks(child.pid) is None
    assert unhealthy_because(path, time.time()) == f"process {child.pid} has ended"


def test_another_process_under_the_same_number_does_not_count(tmp_path: Path) -> None:
    # A container's first process has the same number each time.
    path = written(tmp_path, os.getpid(), start_ticks=(start_ticks(os.getpid()) or 0) - 1)
    assert unhealthy_because(path, time.time()) == f"process {os.getpid()} has ended"


def test_a_stopped_process_is_not_healthy(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    path = written(tmp_path, child.pid)
    child.send_signal(signal.SIGSTOP)
    stopped = f"process {child.pid} is stopped"
    wait_until(lambda: unhealthy_because(path, time.time()) == stopped, 10, "the stop")
    child.send_signal(signal.SIGCONT)
    wait_until(lambda: unhealthy_because(path, time.time()) is None, 10, "the recovery")


def test_a_process_whose_loop_hangs_is_not_healthy(tmp_path: Path) -> None:
    path = written(tmp_path, os.getpid())
    touched_s = path.stat().st_mtime
    assert unhealthy_because(path, touched_s + MAX_SILENCE_S) is None
    assert "has not stirred for 31 s" in str(unhealthy_because(path, touched_s + MAX_SILENCE_S + 1))


def test_the_command_says_one_line_and_an_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ISOS_PROCESS_NAME", "edge-0")
    assert main([]) == 1
    written(tmp_path, os.getpid())
    assert (main([]), main(["edge-0"]), main(["edge-1"]), main(["edge-0", "edge-1"])) == (0, 0, 1, 2)
    monkeypatch.delenv("ISOS_PROCESS_NAME")
    assert main([]) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["edge-0 does not serve: it is not ready yet", "edge-0 serves", "edge-0 serves"]
    assert len(said) == 6


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, infra.health\n"
        "print([name for name in ('asyncio', 'pydantic', 'numpy', 'aiokafka') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

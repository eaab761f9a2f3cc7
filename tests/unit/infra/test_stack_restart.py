"""Which processes are restarted in which order, and what is said when they cannot be."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import stack_restart
from infra.process import Process, ProcessSpec, ready_file
from infra.settings import StartError, load_settings
from infra.stack_restart import _only_one, _stop, in_order, restart, role_of
from infra.stack_state import claim, write_state

RUNNING = (
    *("broker", "redis", "registry", "orchestrator", "control"),
    *("edge-0", "edge-1", "router-0", "executor-0", "executor-1", "validator-0"),
)


def test_readers_come_before_writers_and_servers_stay() -> None:
    assert in_order(RUNNING, ()) == (
        *("registry", "control", "validator-0", "executor-0", "executor-1", "router-0", "edge-0", "edge-1"),
        "orchestrator",
    )


def test_roles_and_processes_may_be_named() -> None:
    assert in_order(RUNNING, ("edge", "executor-1")) == ("executor-1", "edge-0", "edge-1")
    assert in_order(RUNNING, ("redis", "broker")) == ("broker", "redis")


def test_an_unknown_name_is_said_with_the_known_ones() -> None:
    with pytest.raises(StartError, match="no process or role edge-7; there are broker, redis") as caught:
        in_order(RUNNING, ("edge-7",))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("process", "role"), [("edge-12", "edge"), ("control", "control"), ("a-b-3", "a-b")])
def test_the_role_of_a_process(process: str, role: str) -> None:
    assert role_of(process) == role


def test_without_a_stack_there_is_nothing_to_restart(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="isos up") as caught:
        restart(load_settings(data_dir=tmp_path))
    assert caught.value.exit_code == 3


def test_who_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_restart, "STOP_S", 0.2)
    settings = load_settings(data_dir=tmp_path)
    program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    command = [sys.executable, "-c", program]
    with (
        claim(settings),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as child,
    ):
        assert child.stdout is not None
        assert child.stdout.readline() == "deaf\n"
        process = Process(
            ProcessSpec("edge-0", (), {}, tmp_path / "log", ready_file(tmp_path / "ready")), pid=child.pid
        )
        write_state(settings, 0.0, True, [process])
        said: list[tuple[str, str]] = []
        stopped = _stop(settings, "edge-0", time.monotonic(), lambda name, event, _seconds: said.append((name, event)))
        assert child.wait(5) == -signal.SIGKILL
    assert (stopped.killed, stopped.old_pid) == (True, child.pid)
    assert said == [("edge-0", "stopping"), ("edge-0", "killed")]


def test_two_restarts_at_once_are_refused(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with claim(settings), _only_one(settings):
        write_state(settings, 0.0, True, [])
        with pytest.raises(StartError, match="Another restart") as caught:
            restart(settings)
    assert caught.value.exit_code == 4


def test_a_stack_that_starts_is_left_alone(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with claim(settings):
        write_state(settings, 0.0, False, [])
        with pytest.raises(StartError, match="still starting") as caught:
            restart(settings)
    assert caught.value.exit_code == 4

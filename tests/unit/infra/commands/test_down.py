"""Stopping: nothing to stop, a supervisor that obeys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import infra.commands.down as command
from infra.child_environment import as_environment
from infra.commands.down import stop_stack
from infra.settings import StartError, load_settings
from infra.stack_state import claim, is_running

_SUPERVISOR = """
import signal, sys
from infra.settings import load_settings
from infra.stack_state import claim, write_state
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
settings = load_settings()
with claim(settings):
    write_state(settings, 0.0, True, [])
    print("claimed", flush=True)
    signal.pause()
"""


def test_nothing_running_is_said(tmp_path: Path) -> None:
    assert stop_stack(load_settings(data_dir=tmp_path)) is False


def test_what_does_not_end_is_not_called_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_CLEAN_S", 0.1)
    settings = load_settings(data_dir=tmp_path)
    with claim(settings), pytest.raises(StartError, match="does not end") as caught:  # a lock, and no process to stop
        stop_stack(settings)
    assert caught.value.exit_code == 5


def test_a_supervisor_is_asked_and_waited_for(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    env = {**os.environ, **as_environment(settings)}
    command = [sys.executable, "-c", _SUPERVISOR]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "claimed\n"
        assert is_running(settings)
        assert stop_stack(settings) is True
        assert supervisor.wait(5) == 0
    assert not is_running(settings)

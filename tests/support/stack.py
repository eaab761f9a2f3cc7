"""A whole stack as a subprocess of a test: start, kill and freeze its processes, read its state, stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from infra.child_environment import child_environment
from infra.settings import Settings, load_settings
from infra.stack_state import read_state
from tests.support.broker import free_ports

SESSION_S = 4
"""Session time-out of a stack whose test waits for it but is not about it: shorter than the default."""


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll ``condition`` until it is true and return its value; AssertionError naming ``what`` otherwise."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)


def own_ports() -> dict[str, Any]:
    """Settings of free ports for all servers of a stack: another one may stand on the default ones."""
    names = ("broker_port", "controller_port", "redis_port", "registry_port")
    return dict(zip(names, free_ports(len(names)), strict=True))


def stack_settings(folder: Path, **flags: Any) -> Settings:
    """Settings of a stack of its own in ``folder``, on free ports."""
    return load_settings(
        data_dir=folder / "data",
        **{
            **own_ports(),
            "partitions": 2,
            "device": "cpu",
            "brokers": "",
            "redis_url": "",
            "slow_executors": 0,
            **flags,
        },
    )


class RunningStack:
    """A supervisor with its processes. ``with RunningStack(settings) as stack`` leaves nothing behind.

    ``source``: the folder whose source tree it and its commands run from, in place of this checkout.
    """

    def __init__(
        self,
        settings: Settings,
        argv: Sequence[str] = (sys.executable, "-m", "infra.stack"),
        *,
        source: Path | None = None,
    ) -> None:
        self.settings = settings
        self._source = source
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = settings.data_dir / "supervisor.log"
        self._log = self.log_path.open("ab")
        self._supervisor = subprocess.Popen(
            argv, env=self.environment, stdout=self._log, stderr=self._log, start_new_session=True, cwd=source
        )

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which every command of ours finds this stack."""
        path = {} if self._source is None else {"PYTHONPATH": str(self._source)}
        return {**child_environment(self.settings, os.environ), **path}

    def wait_ready(self, seconds: float = 180.0) -> None:
        """Wait until every process is ready."""

        def ready() -> bool:
            if self._supervisor.poll() is not None:
                raise AssertionError(f"the stack ended with {self._supervisor.returncode}: {self.text()[-1500:]}")
            state = read_state(self.settings)
            return bool(state.get("ready")) and state["supervisor"]["pid"] == self._supervisor.pid

        wait_until(ready, seconds, "readiness of the stack")

    def text(self) -> str:
        """What the supervisor printed."""
        return self.log_path.read_text(errors="replace")

    def log(self, name: str) -> str:
        """The log of one process."""
        return (self.settings.log_dir / f"{name}.log").read_text(errors="replace")

    def processes(self) -> dict[str, dict[str, Any]]:
        """State of every process by name (pid, phase, restarts, started_us)."""
        return {each["name"]: each for each in read_state(self.settings).get("processes", [])}

    def pid(self, name: str) -> int:
        """Process id of a running process."""
        return int(wait_until(lambda: self.processes()[name]["pid"], 30, f"a process id of {name}"))

    def kill(self, name: str) -> int:
        """Kill -9; returns the process id that is gone."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def freeze(self, name: str) -> int:
        """SIGSTOP; returns the process id, for ``thaw``."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        return pid

    def thaw(self, pid: int) -> None:
        """SIGCONT."""
        os.kill(pid, signal.SIGCONT)

    def wait_restarted(self, name: str, old_pid: int, seconds: float = 60.0) -> None:
        """Wait until another process of this name is ready."""

        def restarted() -> bool:
            state = self.processes()[name]
            return state["pid"] not in (None, old_pid) and state["phase"] == "ready"

        wait_until(restarted, seconds, f"the restart of {name}")

    def isos(self, *arguments: str, check: bool = True, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=seconds, check=False, cwd=self._source,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"isos {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-1500:]}")
        return done

    def isos_json(self, *arguments: str, check: bool = True) -> Any:
        """Run the command line with ``--output json`` and parse what it printed."""
        return json.loads(self.isos(*arguments, "--output", "json", check=check).stdout)

    def stop(self, seconds: float = 60.0) -> None:
        """Stop cleanly."""
        if self._supervisor.poll() is None:
            self._supervisor.terminate()
            try:
                self._supervisor.wait(seconds)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
                raise
        self._log.close()

    def __enter__(self) -> RunningStack:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

"""Ctrl-C on ``isos up`` with all its real processes: at any time, no process and no listening socket is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.child_environment import as_environment
from infra.registration import Registrar
from infra.settings import Settings
from infra.stack_state import read_state
from streams.codec import subject_of
from streams.connection import Connection
from streams.registry.schema_log import read_schema_ids
from tests.support.leftovers import listening, processes_of
from tests.support.load import Load, LoadRun
from tests.support.stack import stack_settings, wait_until

MODEL = "bench-00"
STOP_S = 25.0
pytestmark = pytest.mark.timeout(300)


class Foreground:
    """``isos up`` as in a terminal: a process group of its own, which Ctrl-C reaches as a whole."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = stack_settings(folder)
        self.log = folder / "up.log"
        with self.log.open("wb") as out:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", "up"],
                env={**os.environ, **as_environment(self.settings)},
                stdout=out,
                stderr=out,
                process_group=0,
            )

    def wait_said(self, name: str, event: str) -> None:
        """Wait for a line of progress."""
        wait_until(lambda: [name, event] in self._lines(), 90, f"{name} {event}")

    def wait_ready(self) -> None:
        """Wait until everything is ready."""
        self.wait_said("stack", "ready")

    def ctrl_c(self) -> None:
        """Interrupt the group."""
        os.killpg(self._up.pid, signal.SIGINT)

    def assert_gone(self, seconds: float) -> None:
        """Assert that it ends well within this time, and that nothing is left then."""
        assert self._up.wait(seconds) == 0, self.log.read_text()[-1500:]
        assert processes_of(self.settings.data_dir) == []
        assert listening(self.ports) == []

    @property
    def ports(self) -> tuple[int, ...]:
        """All ports of the stack."""
        settings = self.settings
        return settings.broker_port, settings.controller_port, settings.redis_port, settings.registry_port

    def end(self) -> None:
        """End what a failed test left."""
        if self._up.poll() is None:
            self._up.kill()
            self._up.wait()

    def _lines(self) -> list[list[str]]:
        return [line.split()[2:] for line in self.log.read_text().splitlines()]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Foreground]:
    made = Foreground(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize(("name", "event"), [("broker", "starting"), ("provision", "starting"), ("edge-0", "starting")])
def test_during_the_start(up: Foreground, name: str, event: str) -> None:
    up.wait_said(name, event)
    up.ctrl_c()
    up.assert_gone(STOP_S)
    assert ["stack", "ready"] not in up._lines()


def test_under_load(up: Foreground, tmp_path: Path) -> None:
    up.wait_ready()
    assert set(listening(up.ports)) == set(up.ports)
    bootstrap = up.settings.bootstrap
    asyncio.run(register(bootstrap, up.settings.data_dir))
    ids = asyncio.run(read_schema_ids(Connection(bootstrap)))
    schema_id = ids.write_ids[subject_of("inference.requests")]
    with LoadRun(tmp_path, bootstrap, schema_id, [Load(MODEL)], 500) as load:
        load.go()
        load.wait_for_flow()
        up.ctrl_c()
        up.assert_gone(STOP_S)


async def register(bootstrap: str, data_dir: Path) -> None:
    async with Registrar(Connection(bootstrap), ModelStore(data_dir)) as registrar:
        await registrar.register(*bench_model(MODEL, 0))


def test_again_during_the_stop(up: Foreground) -> None:
    up.wait_ready()
    up.ctrl_c()
    wait_until(lambda: stopping(up.settings), STOP_S, "the stop of a first process")
    up.ctrl_c()
    up.assert_gone(10)


def stopping(settings: Settings) -> bool:
    """Whether some process is down already."""
    return any(row["phase"] == "stopped" for row in read_state(settings).get("processes", []))

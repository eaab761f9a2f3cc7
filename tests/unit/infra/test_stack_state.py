"""The lock and the state file of a data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.process import Phase, Process, ProcessSpec
from infra.settings import Settings, StartError, load_settings
from infra.stack_state import PoolReport, claim, is_running, read_state, report_stack, write_state


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "data")


async def _ready(pid: int) -> bool:
    return pid > 0


def test_only_one_supervisor_holds_a_data_directory(settings: Settings) -> None:
    assert not is_running(settings)
    with claim(settings):
        assert is_running(settings)
        write_state(settings, 0.0, False, [])
        with pytest.raises(StartError, match=f"already running .*process {os.getpid()}"), claim(settings):
            pass
    assert not is_running(settings)


def test_a_folder_that_cannot_be_made_is_one_sentence() -> None:
    with pytest.raises(StartError, match="cannot be written"), claim(load_settings(data_dir="/proc/nowhere")):
        pass


def test_the_report_of_nothing(settings: Settings) -> None:
    report = report_stack(settings)
    assert (report.running, report.ready, report.processes) == (False, False, ())


def test_a_running_process_has_figures_and_a_dead_stack_has_none(settings: Settings, tmp_path: Path) -> None:
    process = Process(ProcessSpec("me", ("x",), {}, tmp_path / "log", _ready))
    process.phase, process.pid, process.started_s, process.num_restarts = Phase.READY, os.getpid(), 1.0, 2
    with claim(settings):
        write_state(settings, 1.0, True, [process])
        report = report_stack(settings, sample_s=0.01)
        row = report.processes[0]
        assert report.ready
        assert (row.name, row.pid, row.phase, row.restarts) == ("me", os.getpid(), "ready", 2)
        assert row.rss_mb is not None
        assert row.rss_mb > 1
        assert row.cpu_percent is not None
    dead = report_stack(settings).processes[0]
    assert (dead.phase, dead.pid, dead.rss_mb) == ("stopped", None, None)


def test_a_pool_says_how_many_there_should_be_and_how_many_serve(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data", executors=1, max_executors=3)
    phases = (Phase.READY, Phase.STARTING, Phase.READY, Phase.READY)  # the last one is of the slow lane
    rows = [
        Process(ProcessSpec(f"executor-{at}", ("x",), {}, tmp_path / "log", _ready), phase=phase)
        for at, phase in enumerate(phases)
    ]
    with claim(settings):
        write_state(settings, 1.0, True, rows, {"executors": 2})
        assert report_stack(settings).pools == (
            PoolReport("executors", 2, 3, 3, 2), PoolReport("executors-slow", 1, 1, 1, 1),
        )  # fmt: skip
        write_state(settings, 1.0, True, rows[:1])
        assert report_stack(settings).pools == (
            PoolReport("executors", 1, 3, 1, 1), PoolReport("executors-slow", 1, 1, 0, 0),
        )  # fmt: skip
    assert report_stack(settings).pools == ()


def test_a_damaged_state_file_reads_as_empty(settings: Settings) -> None:
    settings.run_dir.mkdir(parents=True)
    (settings.run_dir / "stack.json").write_text("{")
    assert read_state(settings) == {}

"""What is asked of the stack, and what its state file says came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.launcher import LauncherAwayError, LocalLauncher, PoolState, asked_for, forget_asked
from infra.pools import executor_names
from infra.process import Phase, Process, ProcessSpec
from infra.settings import Settings, load_settings
from infra.stack_state import claim, write_state


async def _ready(pid: int) -> bool:
    return pid > 0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "data", executors=1, max_executors=3)


def process(name: str, phase: Phase) -> Process:
    return Process(ProcessSpec(name, ("x",), {}, Path("log"), _ready), phase=phase)


def test_what_was_asked_for_last_stands_until_the_next_start(settings: Settings) -> None:
    settings.run_dir.mkdir(parents=True)
    assert asked_for(settings) is None
    launcher = LocalLauncher(settings)
    for count in (3, 0):
        launcher.set(count)
        assert asked_for(settings) == count
    forget_asked(settings)
    assert asked_for(settings) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"executors": "2"}'])
def test_a_damaged_wish_is_none(settings: Settings, text: str) -> None:
    settings.run_dir.mkdir(parents=True)
    (settings.run_dir / "desired.json").write_text(text)
    assert asked_for(settings) is None


def test_the_state_counts_fast_executors_only_and_tells_who_serves(settings: Settings) -> None:
    launcher = LocalLauncher(settings)
    with pytest.raises(LauncherAwayError, match="no stack runs"):
        launcher.state()
    rows = [
        process("router-0", Phase.READY),
        process("executor-0", Phase.READY),
        process("executor-1", Phase.STARTING),
        process("executor-2", Phase.READY),
        process("executor-3", Phase.READY),  # of the slow lane
    ]
    with claim(settings):
        write_state(settings, 0.0, False, rows, {"executors": 2})
        with pytest.raises(LauncherAwayError, match="still starting"):
            launcher.state()
        write_state(settings, 0.0, True, rows, {"executors": 2})
        found = launcher.state()
    assert found == PoolState(2, 3, executor_names(3), ("executor-0", "executor-2"))
    assert found.num_ready == 1  # executor-2 is one too many, and about to end


def test_pools_are_asked_for_and_told_of_apart(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, executors=1, max_executors=3, max_slow_executors=2)
    settings.run_dir.mkdir(parents=True)
    fast, slow = LocalLauncher(settings), LocalLauncher(settings, "executors-slow")
    fast.set(3)
    slow.set(2)
    assert (asked_for(settings), asked_for(settings, "executors-slow")) == (3, 2)
    rows = [process(name, Phase.READY) for name in ("executor-0", "executor-3", "executor-4", "executor-5")]
    with claim(settings):
        write_state(settings, 0.0, True, rows, {"executors-slow": 2})
        assert slow.state() == PoolState(2, 2, ("executor-3", "executor-4"), ("executor-3", "executor-4"), 3)
        assert slow.state().num_ready == 2
        assert fast.state() == PoolState(1, 3, ("executor-0",), ("executor-0",))


def test_a_folder_that_is_gone_is_said(settings: Settings) -> None:
    with pytest.raises(LauncherAwayError, match=r"desired\.json cannot be written"):
        LocalLauncher(settings).set(1)


def test_only_one_scales_a_stack(settings: Settings) -> None:
    with LocalLauncher(settings).claim() as mine:
        assert mine
        with LocalLauncher(settings).claim() as another:
            assert not another
    with LocalLauncher(settings).claim() as again:
        assert again

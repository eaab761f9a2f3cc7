"""Which processes there are; their life is tested on real servers in tests/integration/test_stack.py."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from infra.launcher import LocalLauncher
from infra.settings import StartError, load_settings
from infra.stack import Role, Stack, default_provision, default_roles, executor_role
from infra.stack_state import read_state


def test_the_roles_and_their_numbers(tmp_path: Path) -> None:
    roles = default_roles(load_settings(data_dir=tmp_path, edges=2, routers=1, executors=0, validators=1))
    names = ["registry", "orchestrator", "control", "edge-0", "edge-1", "router-0", "validator-0"]
    assert [role.name for role in roles] == names
    assert roles[4].argv == (sys.executable, "-m", "infra.roles", "edge", "--instance", "1")


def test_slow_executors_are_numbered_behind_all_that_scaling_may_start(tmp_path: Path) -> None:
    roles = default_roles(load_settings(data_dir=tmp_path, executors=1, max_executors=3, slow_executors=2))
    assert [role.name for role in roles if "executor" in role.name] == ["executor-0", "executor-3", "executor-4"]
    roles = default_roles(load_settings(data_dir=tmp_path, executors=2, max_slow_executors=3))
    assert [role.name for role in roles if "executor" in role.name] == ["executor-0", "executor-1", "executor-2"]
    assert executor_role(2).argv == (sys.executable, "-m", "infra.roles", "executor", "--instance", "2")


def test_an_outside_registry_replaces_ours(tmp_path: Path) -> None:
    roles = default_roles(load_settings(data_dir=tmp_path, registry_url="http://127.0.0.1:1"))
    assert "registry" not in [role.name for role in roles]


def test_topics_are_provisioned_before_the_roles() -> None:
    assert default_provision()[1:] == ("-m", "infra.roles", "provision")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the servers be somebody else's, so that a stack needs none of its own."""
    monkeypatch.setattr("infra.stack.check_before_start", lambda settings: None)


@pytest.mark.usefixtures("outside")
async def test_a_failing_provision_step_names_its_log(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, brokers="b:1", redis_url="redis://r")
    with pytest.raises(StartError, match=r"provision\.log"):
        await Stack(settings, (), ("/bin/false",)).run()


@pytest.mark.usefixtures("outside")
async def test_a_role_that_keeps_failing_ends_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, brokers="b:1", redis_url="redis://r")
    stack = Stack(settings, (Role("good", ("/bin/sleep", "600")), Role("bad", ("/bin/false",))), None)
    with pytest.raises(StartError, match=r"bad does not start .*bad\.log"):
        await stack.run()
    assert [process.pid for process in stack.processes] == [None, None]


@pytest.mark.usefixtures("outside")
async def test_a_stack_starts_reports_and_stops(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, brokers="b:1", redis_url="redis://r")
    ready = 'echo "{\\"pid\\": $$}" > $ISOS_DATA_DIR/run/$ISOS_PROCESS_NAME.ready; exec sleep 600'
    events: list[tuple[str, str]] = []
    stack = Stack(settings, (Role("a", ("/bin/sh", "-c", ready)),), ("/bin/true",))

    def note(name: str, event: str, seconds: float) -> None:
        events.append((name, event))
        if (name, event) == ("stack", "ready"):
            stack.stop()

    stack.report = note
    await stack.run()
    assert events == [
        ("provision", "starting"),
        ("provision", "done"),
        ("a", "starting"),
        ("a", "ready"),
        ("stack", "ready"),
        ("a", "stopped"),
        ("stack", "stopped"),
    ]


READY = 'echo "{\\"pid\\": $$}" > $ISOS_DATA_DIR/run/$ISOS_PROCESS_NAME.ready; exec sleep 600'


@pytest.mark.usefixtures("outside")
async def test_executors_come_and_go_as_they_are_asked_for(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, brokers="b:1", redis_url="redis://r", executors=1, max_executors=3)

    def stand_in(instance: int) -> Role:
        return Role(f"executor-{instance}", ("/bin/sh", "-c", READY))

    launcher = LocalLauncher(settings)
    seen: list[tuple[str, str]] = []
    stack = Stack(settings, (stand_in(0),), None, executor=stand_in)

    def note(name: str, event: str, seconds: float) -> None:
        seen.append((name, event))
        if (name, event) == ("stack", "ready"):
            launcher.set(3)
        elif event == "ready" and stack.is_ready and launcher.state().num_ready == 3:
            launcher.set(1)
        elif event == "stopped" and seen.count(("executor-1", "stopped")) + seen.count(("executor-2", "stopped")) == 2:
            stack.stop()

    stack.report = note
    async with asyncio.timeout(60):
        await stack.run()
    assert {name for name, event in seen if event == "ready"} == {"executor-0", "executor-1", "executor-2", "stack"}
    ended = [name for name, event in seen if event == "stopped"]
    assert (sorted(ended[:2]), ended[2:]) == (["executor-1", "executor-2"], ["executor-0", "stack"])
    assert read_state(settings)["pools"] == {
        "executors": {"wanted": 1, "most": 3},
        "executors-slow": {"wanted": 1, "most": 1},
    }

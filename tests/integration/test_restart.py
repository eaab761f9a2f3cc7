"""``isos restart`` on a real stack: by process and role, one by one and together, and what is said when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.served import MODEL
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(300)


def serves(stack: RunningStack) -> None:
    """A request is answered."""
    stack.isos("infer", MODEL, "--json", json.dumps([[0.5] * 256]), "--timeout-ms", "60000")


def pids(stack: RunningStack) -> dict[str, int]:
    return {name: row["pid"] for name, row in stack.processes().items()}


def restarted(stack: RunningStack, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = stack.isos_json("restart", *arguments)
    return rows


def test_named_processes_are_new_and_the_others_stay(whole_stack: RunningStack) -> None:
    before = pids(whole_stack)
    whole_stack.freeze("router-0")  # it is woken to hear that it shall end
    rows = restarted(whole_stack, "edge", "router-0")
    after = pids(whole_stack)
    assert [row["process"] for row in rows] == ["router-0", "edge-0"]
    assert [(row["old_pid"], row["pid"]) for row in rows] == [(before[n], after[n]) for n in ("router-0", "edge-0")]
    assert {name for name in before if before[name] != after[name]} == {"router-0", "edge-0"}
    assert all(row["caught_up_s"] is not None for row in rows)
    serves(whole_stack)


def test_together_and_with_a_server(whole_stack: RunningStack) -> None:
    before = pids(whole_stack)
    done = whole_stack.isos("restart", "redis", "edge", "--together")
    after = pids(whole_stack)
    assert {name for name in before if before[name] != after[name]} == {"redis", "edge-0"}
    lines = [line.split()[2:] for line in done.stderr.splitlines() if " s  " in line]
    assert lines[:2] == [["redis", "stopping"], ["edge-0", "stopping"]]
    serves(whole_stack)


def test_an_unknown_name_is_exit_3(whole_stack: RunningStack) -> None:
    done = whole_stack.isos("restart", "gateway", check=False)
    assert done.returncode == 3
    assert "There is no process or role gateway; there are broker, redis" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_is_not_back_in_time_is_exit_5(whole_stack: RunningStack) -> None:
    before = whole_stack.pid("executor-0")
    done = whole_stack.isos("restart", "executor", "--timeout", "0.1", check=False)
    assert done.returncode == 5, done.stderr
    assert "`isos restart" in done.stderr
    assert "Traceback" not in done.stderr
    whole_stack.wait_restarted("executor-0", before)
    wait_until(lambda: whole_stack.processes()["executor-0"]["phase"] == "ready", 60, "readiness of the executor")
    serves(whole_stack)

"""``isos replay`` and ``isos backtest`` over the journals of a stack that worked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.topics import JOURNALED_AGENTS
from tests.support.served import BYTES_MODEL
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(180)


def by_agent(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["agent"]: row for row in rows}


def test_todays_code_decides_what_the_journals_say(whole_stack: RunningStack) -> None:
    """The stack has registered models and planned for them; a kill makes the next ones begin at a snapshot."""
    before = by_agent(whole_stack.isos_json("replay", "--all"))
    assert list(before) == [*JOURNALED_AGENTS, "router"]
    assert {name: row["difference"] for name, row in before.items()} == dict.fromkeys(before)
    assert all(before[name]["entries"] > 0 for name in ("orchestrator", "planner", "monitor", "scaler", "researcher"))
    whole_stack.wait_restarted("control", whole_stack.kill("control"))

    def taken_over() -> bool:
        rows = by_agent(whole_stack.isos_json("replay", "monitor", "planner", "--from-start"))
        assert {row["differences"] for row in rows.values()} == {0}
        return all(row["snapshots"] > before[name]["snapshots"] for name, row in rows.items())

    del before["router"]
    wait_until(taken_over, 60, "snapshots of the successors")
    for row in before.values():
        print(f"{row['agent']}: {row['entries']} entries, {row['records_per_s']} a second")


def test_where_rows_went_is_derived_again_from_memory_as_it_stood(whole_stack: RunningStack) -> None:
    """This stack keeps the decision on every frame."""
    whole_stack.isos("infer", BYTES_MODEL, "--json", "[1, 2, 3, 4]")

    def kept() -> Any:
        (row,) = whole_stack.isos_json("replay", "router", "--from-start")
        assert (row["differences"], row["notes"]) == (0, []) or not row["entries"]
        return row if row["entries"] else None

    row = wait_until(kept, 30, "a kept decision of a Router")
    print(f"router: {row['entries']} decisions, {row['records_per_s']} a second")


def test_another_policy_of_the_monitor(whole_stack: RunningStack, tmp_path: Path) -> None:
    policy = tmp_path / "monitor.toml"
    policy.write_text("silent_us = 5_000_000\n")
    same = whole_stack.isos_json("backtest", "monitor", "--policy", str(policy))
    assert (same["changes"], same["policy"], same["difference_today"]) == (0, {}, None)
    assert same["entries"] > 0
    policy.write_text("silent_us = 300_000\n")  # heartbeats come each second: everything is silent in between

    def changed() -> Any:
        document = whole_stack.isos_json("backtest", "monitor", "--policy", str(policy))
        return document if document["changes"] else None

    other = wait_until(changed, 60, "decisions of an impatient Monitor")
    assert other["policy"] == {"silent_us": [5_000_000, 300_000]}
    told = [effect for each in other["decisions"] for effect in each["would_be"]]
    assert {effect["topic"] for effect in told} <= {"control.alerts", "memory.commands"}
    assert "process_silent" in {effect["record"]["kind"] for effect in told}
    policy.write_text("silent_s = 2\n")
    refused = whole_stack.isos("backtest", "monitor", "--policy", str(policy), check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("silent_s is no parameter; there are ")


def test_a_changed_parameter_is_named_at_the_first_entry_that_it_changes(whole_stack: RunningStack) -> None:
    done = whole_stack.isos(
        *("--set", "default_timeout_ms=1234", "replay", "planner", "monitor", "--output", "json"), check=False
    )
    assert done.returncode == 7
    planner, monitor = json.loads(done.stdout)
    found = planner["difference"]
    assert (monitor["differences"], found["agent"], found["part"]) == (0, "planner", "effects")
    assert "to control.plans under" in found["what"]
    journaled = whole_stack.settings.default_timeout_ms
    assert found["what"].endswith(f"plan.timeout_ms: {journaled} in the journal, 1234 today"), found["what"]
    assert f"planner: it decides otherwise today at sequence {found['sequence']} of " in done.stderr
    gone = whole_stack.isos("replay", "janitor", check=False)
    assert (gone.returncode, gone.stdout) == (3, "")

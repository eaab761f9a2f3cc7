"""The audit log on a whole stack: commands and memory's operations, each once through kills; strangers are found."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from streams.audit_chain import LOG
from streams.audit_operation import Actor
from streams.audit_writer import AuditWriter
from streams.connection import Connection, producer
from streams.topics import full_name
from tests.support.served import MODEL
from tests.support.stack import RunningStack, wait_until

FIELDS = (
    *("timestamp", "user", "change_ticket", "environment", "operation", "model_name", "model_version"),
    *("previous_version", "deployment_strategy", "resources", "command", "outcome", "resources_affected"),
    *("rollback_available", "duration_seconds", "performance_metrics", "error_detail", "service", "team"),
)
pytestmark = pytest.mark.timeout(180)


def records(stack: RunningStack, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.isos_json("audit", "list", "--limit", "0", *arguments)
    return found


def verified(stack: RunningStack, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = stack.isos("audit", "verify", *arguments, "--output", "json", check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def memory_sequence(stack: RunningStack) -> int:
    return int(stack.isos_json("memory", "verify")["sequence"])


def test_every_operation_of_memory_is_recorded_once_with_its_fields(whole_stack: RunningStack, tmp_path: Path) -> None:
    who = ("--user", "alice", "--change-ticket", "CHG-7")
    whole_stack.isos(*who, "serving", "set", MODEL, "--max-attempts", "3")
    wait_until(lambda: records(whole_stack, "--operation", "memory.ServingPolicySet"), 20, "an audit record")
    whole_stack.isos("audit", "export", str(tmp_path / "audit.jsonl"))
    found = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert all(set(FIELDS) <= set(each) for each in found)
    of_memory = [(each["operation_id"], each["phase"]) for each in found if each["origin"] == "memory"]
    assert len(set(of_memory)) == len(of_memory)
    last = max(int(operation.removeprefix("memory-")) for operation, _ in of_memory)
    expected = [(f"memory-{n}", phase) for n in range(1, last + 1) for phase in ("before", "after")]
    skipped = set(expected) - set(of_memory)
    assert len(skipped) <= 10  # RejectionForgotten and the like
    asked = [each for each in found if each["user"] == "alice"]
    assert [(each["operation"], each["phase"], each["change_ticket"]) for each in asked] == [
        ("command.SetServingPolicy", "before", "CHG-7"),
        ("command.SetServingPolicy", "after", "CHG-7"),
    ]
    became = [each for each in found if each["command_id"] == asked[0]["command_id"] and each["origin"] == "memory"]
    assert {each["operation"] for each in became} == {"memory.ServingPolicySet"}
    activated = [each for each in found if each["operation"] == "memory.VersionActivated" and each["phase"] == "after"]
    assert {each["model_name"] for each in activated} >= {MODEL}
    assert {(each["service"], each["team"]) for each in found} == {("ml-serving", "ml-engineering")}


async def tell(stack: RunningStack, num: int) -> None:
    """Have a process tell of so many operations, as fast as the broker takes them."""
    writer = AuditWriter(Connection(stack.settings.bootstrap), Actor("tester", "test-0"))
    running = asyncio.create_task(writer.run())
    for number in range(num):
        with writer.operation(f"test.{number}"):
            pass
    await writer.drain(60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert writer.num_dropped == 0


def test_an_orchestrator_that_is_killed_records_each_thing_once(whole_stack: RunningStack) -> None:
    asyncio.run(tell(whole_stack, 200))
    pid = whole_stack.kill("orchestrator")
    asyncio.run(tell(whole_stack, 100))
    whole_stack.isos("serving", "set", MODEL, "--max-attempts", "2")  # answered by the next one
    whole_stack.wait_restarted("orchestrator", pid)
    last = memory_sequence(whole_stack)
    command = [
        each for each in records(whole_stack, "--operation", "command.SetServingPolicy") if each["origin"] != "memory"
    ]
    assert [(each["phase"], each["outcome"]) for each in command[-2:]] == [("before", "pending"), ("after", "done")]
    assert command[-1]["operation_id"] == command[-2]["operation_id"]
    assert command[-1]["command"].startswith("isos serving set")
    wait_until(
        lambda: any(each["operation_id"] == f"memory-{last}" for each in records(whole_stack)), 20, "the last record"
    )
    wait_until(lambda: len(records(whole_stack, "--user", "tester")) >= 600, 20, "all records of the intake")
    found = [(each["operation_id"], each["phase"]) for each in records(whole_stack)]
    assert len(found) == len(set(found))
    told = [(each["operation"], each["phase"]) for each in records(whole_stack, "--user", "tester")]
    numbers = [*range(200), *range(100)]
    assert told == [(f"test.{number}", phase) for number in numbers for phase in ("before", "after")]
    code, report, said = verified(whole_stack)
    assert (code, report["faults"], report["voids"]) == (0, [], []), said


def test_a_signed_head_of_memory_stands_in_the_log(whole_stack: RunningStack) -> None:
    code, report, _ = verified(whole_stack)
    assert (code, report["heads"] > 0, report["signed"] > 0) == (0, True, True)
    memory = whole_stack.isos_json("memory", "verify")
    assert (memory["sound"], memory["signed"] > 0) == (True, True)


def test_what_a_stranger_writes_is_named(whole_stack: RunningStack) -> None:
    """The last of the module: what stands in this log now, stays."""

    async def forge() -> list[int]:
        client = producer(Connection(whole_stack.settings.bootstrap))
        await client.start()
        try:
            sent = [client.send_and_wait(full_name(LOG), value, b"k", partition=0) for value in (b"?", None)]
            written = [await each for each in sent]
        finally:
            await client.stop()
        return [each.offset for each in written]

    offsets = asyncio.run(forge())
    code, report, said = verified(whole_stack)
    assert (code, report["sound"], report["faults"]) == (7, False, [])
    assert [each["offset"] for each in report["voids"]] == offsets
    assert said.count("foreign: audit.log/0, offset ") == 2
    whole_stack.isos("serving", "set", MODEL, "--max-attempts", "4")  # the writer goes on behind them
    _, after, _ = verified(whole_stack, "--head", report["head"])
    assert [each["offset"] for each in after["voids"]] == offsets
    assert after["sequence"] >= report["sequence"]

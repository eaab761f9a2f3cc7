"""Scale actions by hand, and what became of them: for tests of the supervisor on a real stack."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np

from infra.log_reader import LogReader
from schemas.scaling import ScaleAction, ScaleConfirmation
from schemas.telemetry import Alert
from streams.client.client import Client
from streams.codec import Codec
from streams.connection import Connection, producer
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from tests.support.faults import FAST, TIMEOUT_MS
from tests.support.stack import RunningStack

ACTIONS = "control.scale-actions"
CONFIRMATIONS = "control.scale-confirmations"
PATIENCE_S = 90.0


def act(stack: RunningStack, current: int, target: int) -> str:
    """Write an action as the Scaler would; gives its id."""
    decision = "scale_up" if target > current else "scale_down"
    now_us = time.time_ns() // 1000
    action = ScaleAction(f"executors/{now_us}", "executors", decision, current, target, "a test wants it", now_us)
    asyncio.run(_write(stack.settings.bootstrap, action))
    return action.action_id


async def _write(bootstrap: str, action: ScaleAction) -> None:
    codec = Codec(await read_schema_ids(Connection(bootstrap)))
    client = producer(Connection(bootstrap))
    await client.start()
    try:
        await client.send_and_wait(full_name(ACTIONS), codec.encode(ACTIONS, action), key=action.pool.encode())
    finally:
        await client.stop()


def actions(stack: RunningStack) -> list[ScaleAction]:
    """Every scale action so far."""
    return asyncio.run(_records(stack.settings.bootstrap, ACTIONS))


def confirmed(stack: RunningStack, action_id: str) -> ScaleConfirmation:
    """The only confirmation of an action, once it is there."""
    end = time.monotonic() + PATIENCE_S
    while True:
        records = asyncio.run(_records(stack.settings.bootstrap, CONFIRMATIONS))
        found = [each for each in records if each.action_id == action_id]
        if found:
            assert len(found) == 1, found
            confirmation: ScaleConfirmation = found[0]
            return confirmation
        assert time.monotonic() < end, f"nobody confirms {action_id}"


async def _records(bootstrap: str, topic: str) -> list[Any]:
    reader = await LogReader.connect(Connection(bootstrap))
    return [each.record for each in await reader.read(topic)]


def scaled(stack: RunningStack, current: int, target: int) -> float:
    """Have so many executors and check that there are; the seconds from the action to its confirmation."""
    action_id = act(stack, current, target)
    confirmation = confirmed(stack, action_id)
    assert (confirmation.outcome, confirmation.replicas, confirmation.reason) == ("done", target, "")
    assert executors(stack) == [f"executor-{instance}" for instance in range(target)]
    assert replicas(stack) == target
    return (confirmation.time_us - int(action_id.partition("/")[2])) / 1e6


def executors(stack: RunningStack) -> list[str]:
    """Names of the executors that serve."""
    rows = stack.processes()
    return sorted(name for name, row in rows.items() if name.startswith("executor-") and row["phase"] == "ready")


def replicas(stack: RunningStack) -> int:
    """How many executors Routers count on, by memory."""
    (entry,) = stack.isos_json("memory", "show", "replicas/executors")
    body = entry["body"]
    return int((json.loads(body) if isinstance(body, str) else body)["replicas"])


def alerts(stack: RunningStack, subject: str) -> list[Alert]:
    """Every alert of a process so far."""
    return [
        each for each in asyncio.run(_records(stack.settings.bootstrap, "control.alerts")) if each.subject == subject
    ]


def served_by(stack: RunningStack, count: int = 60) -> set[str]:
    """Who answers so many requests for one model, sent one after the other."""
    return asyncio.run(_served_by(stack.settings.bootstrap, count))


async def _served_by(bootstrap: str, count: int) -> set[str]:
    found: set[str] = set()
    async with Client(bootstrap) as client:
        for _ in range(count):
            answer = await client.infer(FAST[0], {"x": np.zeros((1, 256), np.float32)}, timeout_ms=TIMEOUT_MS)
            found.add(answer.result.provenance.executor)
    return found

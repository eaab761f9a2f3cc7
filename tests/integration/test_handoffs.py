"""Rules of handing over, broken on a whole stack: by a row without a plan, a forged memory, a stale change.

What people may not do with their approvals is in ``tests/integration/test_reviews.py``; the rules that need no broker
to be broken are in ``tests/unit/test_handoffs.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from infra.log_reader import LogReader
from infra.memory_control import ChangeRefusedError, MemoryControl
from schemas.memory import MemoryCommand
from schemas.serving import ServingPolicy
from streams.canonical import to_json
from streams.client.client import Client
from streams.client.request import Request
from streams.codec import Codec
from streams.connection import Connection, producer
from streams.memory_view import MemoryView, active_version, incidents, plan, serving_policy
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch
from tests.support import models
from tests.support.broker import unique
from tests.support.served import MODEL
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(180)

ROW = {"x": np.zeros((1, 256), np.float32)}


@pytest.fixture
def frozen_control(whole_stack: RunningStack) -> Iterator[None]:
    """All control agents but the Orchestrator stand still meanwhile."""
    pid = whole_stack.freeze("control")
    yield
    whole_stack.thaw(pid)


async def sent(connection: Connection, topic: str, key: str, values: list[bytes]) -> list[int]:
    """Records of a producer that nobody asked; their offsets."""
    client = producer(connection)
    await client.start()
    try:
        written = [await client.send_and_wait(full_name(topic), value, key=key.encode()) for value in values]
    finally:
        await client.stop()
    return [each.offset for each in written]


async def test_a_row_of_a_model_without_a_plan_is_routed_nowhere(
    whole_stack: RunningStack, frozen_control: None
) -> None:
    """The model is registered and active; its Planner is frozen, and no Router guesses."""
    connection = Connection(whole_stack.settings.bootstrap)
    facts = models.version_of(models.identity(), name=unique("planless"))
    key = f"model/{facts.model}/{facts.version}"
    command = MemoryCommand(f"register {key}", "cli", "RegisterModel", key, 0, to_json(facts), "test", (), 1)
    async with MemoryControl(connection) as memory:
        await memory.propose(command, lambda view: active_version(view, facts.model) is not None, "")
        assert plan(memory.view, facts.model) is None
    async with Client(whole_stack.settings.bootstrap) as isos:
        answer = await isos.submit(Request(facts.model, {"x": np.zeros((1, 4), np.float32)}, timeout_ms=10_000))
    assert answer.result.error is not None
    assert (answer.result.status, answer.result.error.code) == ("ERROR", "no_plan")
    assert answer.result.provenance is None or not answer.result.provenance.batch_size


async def test_memory_that_somebody_else_wrote_is_refused_by_readers_and_an_alert(whole_stack: RunningStack) -> None:
    connection = Connection(whole_stack.settings.bootstrap)
    codec = Codec(await read_schema_ids(connection))
    watch = MemoryWatch(connection, codec)
    await watch.start()
    last = (await (await LogReader.connect(connection)).memory_events())[-1].event
    forged = dataclasses.replace(
        last,
        sequence=last.sequence + 1,
        prev_hash=b"\x01" * 32,
        command_id="forged",
        agent="orchestrator",
        kind="PlanMadeEffective",
        key=f"plan/{MODEL}",
        body='{"forged":true}',
    )
    voids, before = watch.voids, watch.view.entries[f"plan/{MODEL}"]
    values = [codec.encode("memory.events", forged), b"rubbish"]
    offsets = await sent(connection, "memory.events", forged.key, values)
    try:

        def told(view: MemoryView) -> bool:
            return any(each.kind == "forged_memory" for each in incidents(view))

        view = await watch.wait_for(told, 30.0, "an incident of forged memory")
        assert watch.voids >= voids + 2
        assert view.entries[f"plan/{MODEL}"] == before
        assert offsets == sorted(offsets)
        async with Client(whole_stack.settings.bootstrap) as isos:
            assert (await isos.infer(MODEL, ROW)).result.status == "OK"
    finally:
        await watch.stop()


async def test_a_change_of_what_has_changed_since_is_refused(whole_stack: RunningStack) -> None:
    """Two operators read the same memory; the second one's change is stale and does nothing."""
    connection = Connection(whole_stack.settings.bootstrap)
    key = f"serving/{MODEL}"
    async with MemoryControl(connection) as first, MemoryControl(connection) as second:
        entry = first.view.entries.get(key)
        version = 0 if entry is None else entry.version
        standing = serving_policy(first.view, MODEL) or ServingPolicy(MODEL)
        tries = 1 + standing.max_attempts % 4
        one, two = (dataclasses.replace(standing, max_attempts=each) for each in (tries, tries + 1))
        await first.propose(_change(key, version, one), lambda view: serving_policy(view, MODEL) == one, "")
        with pytest.raises(ChangeRefusedError) as refused:
            await second.propose(_change(key, version, two), lambda view: serving_policy(view, MODEL) == two, "")
        assert refused.value.code == "version_mismatch"
        assert serving_policy(second.view, MODEL) == one
        back = _change(key, version + 1, standing)
        await second.propose(back, lambda view: serving_policy(view, MODEL) == standing, "")


def _change(key: str, expected_version: int, policy: ServingPolicy) -> MemoryCommand:
    identity = unique(f"{key}/{expected_version}")
    return MemoryCommand(identity, "cli", "SetServingPolicy", key, expected_version, to_json(policy), "test", (), 1)

"""Executors come and go as scale actions say, under traffic: no request is lost, and none is answered twice.

And what strangers write to the topics of others, as the last of it: an action below the policy, and results.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.result import InferenceResult
from streams.client.client import Client
from streams.codec import Codec
from streams.connection import Connection, producer
from streams.ledger import SOURCE, SOURCE_HEADER, STATUS_HEADER
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from tests.support.faults import FAST, chaos_seed, traffic, two_of_each
from tests.support.scaling import act, actions, alerts, confirmed, executors, replicas, scaled, served_by
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(300)

RATE = 300.0
PROBES = 60
RESULTS = "inference.results"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("scaling")
    with two_of_each(folder, edges=1, routers=1, executors=1, validators=1, partitions=1, max_executors=3) as running:
        yield running


def test_executors_follow_the_actions_and_nothing_is_lost(stack: RunningStack, tmp_path: Path) -> None:
    with traffic(stack, tmp_path, chaos_seed(), RATE) as run:
        current = 1
        for target in (2, 3, 1):
            seconds = scaled(stack, current, target)
            print(f"{current} to {target} executors: confirmed {seconds:.2f} s after the action")
            served = served_by(stack, PROBES)
            run.num_probes += PROBES
            assert served == set(executors(stack))
            current = target
        record = run.check()
    print({name: record.summary[name] for name in ("p50_ms", "p99_ms", "max_ms")})
    assert [alert for name in ("executor-1", "executor-2") for alert in alerts(stack, name)] == []


def test_more_than_there_are_lanes_for_is_held(stack: RunningStack) -> None:
    held = confirmed(stack, act(stack, 1, 9))
    assert (held.outcome, held.replicas) == ("held", 1)
    assert held.reason == "There may be 0 to 3 executors (setting max_executors), not 9."


def test_status_says_how_many_there_should_be(stack: RunningStack) -> None:
    document = stack.isos_json("status")
    assert document["pools"] == [{"pool": "executors", "wanted": 1, "most": 3, "running": 1, "ready": 1}]
    assert "executors" in stack.isos("status").stdout


def test_the_scaler_moves_them_within_its_policy(stack: RunningStack) -> None:
    """Up to the least that a policy asks for and down again when it asks for less; each step says why."""
    quick = ("--upscale-delay-s", "0", "--downscale-delay-s", "2", "--cooldown-s", "0")
    document = stack.isos_json("scaling", "set", "--min-replicas", "2", "--max-replicas", "3", *quick)
    assert (document["min_replicas"], document["max_replicas"], document["is_set"]) == (2, 3, True)
    wait_until(lambda: stack.isos_json("scaling", "show")["replicas"] == 2, 60, "a second executor")
    assert executors(stack) == ["executor-0", "executor-1"]
    stack.isos("scaling", "set", "--min-replicas", "1")
    wait_until(lambda: replicas(stack) == 1, 60, "one executor again")
    up, down = [each for each in actions(stack) if each.decision != "hold"][-2:]
    assert (up.decision, up.current_replicas, up.target_replicas) == ("scale_up", 1, 2)
    assert up.reason.endswith("at least 2 stay.")
    assert (down.decision, down.current_replicas, down.target_replicas) == ("scale_down", 2, 1)
    assert "executors busy" in down.reason
    shown = stack.isos_json("scaling", "show")
    assert (shown["replicas"], shown["is_set"], shown["downscale_delay_s"]) == (1, True, 2)


def test_an_action_of_a_stranger_below_the_policy_changes_nothing(stack: RunningStack) -> None:
    """The topic has no fence, so the supervisor looks at the policy itself; the policy of before stands."""
    stack.isos("scaling", "set", "--min-replicas", "1", "--max-replicas", "2")
    held = confirmed(stack, act(stack, 1, 0))
    assert (held.outcome, held.replicas) == ("held", 1)
    assert held.reason == "The policy of executors is 1 to 2 replicas (`isos scaling show`), not 0."
    assert (executors(stack), replicas(stack)) == (["executor-0"], 1)


def test_a_result_that_skips_the_validator_is_named_by_the_ledger(stack: RunningStack) -> None:
    """Last of the module: somebody else answers a request that was answered, and the next one before it is sent."""
    clean = stack.isos_json("ledger", "--drained")
    assert (clean["duplicated"], clean["violations"]) == (0, [])
    partition, offset = asyncio.run(forge_results(stack))
    done = stack.isos("ledger", "--drained", "--output", "json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 7
    (count,) = [each for each in report["partitions"] if each["partition"] == partition]
    assert count["duplicated"] == {"total": 2, "first": [offset, offset + 1]}
    assert f"partition {partition}: 2 duplicated: offsets {offset}, {offset + 1}" in done.stderr
    assert (report["missing"], report["received"]) == (0, clean["received"] + 2)


async def forge_results(stack: RunningStack) -> tuple[int, int]:
    """Partition and offset of a request that the Validator and somebody else answered; so they did the next one."""
    connection = Connection(stack.settings.bootstrap)
    answer = await answered(connection)
    source, codec = answer.source, Codec(await read_schema_ids(connection))
    sender = producer(connection)
    await sender.start()
    try:
        for offset in (source.offset, source.offset + 1):
            forged = replace(answer, source=replace(source, offset=offset), outputs=())
            coordinate = SOURCE.pack(source.topic_id, source.partition, offset)
            await sender.send_and_wait(
                full_name(RESULTS), codec.encode(RESULTS, forged), key=answer.request_id.encode(),
                partition=source.partition, headers=[(SOURCE_HEADER, coordinate), (STATUS_HEADER, b"O")],
            )  # fmt: skip
    finally:
        await sender.stop()
    following = await answered(connection)
    assert following.source == replace(source, offset=source.offset + 1)
    assert following.outputs
    return source.partition, source.offset


async def answered(connection: Connection) -> InferenceResult:
    """The Validator's answer to a new request."""
    async with Client(connection.bootstrap) as client:
        return (await client.infer(FAST[0], {"x": np.zeros((1, 256), np.float32)})).result

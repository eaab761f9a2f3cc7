"""The same request id again on a whole stack: the stated answer each time, and a clean ledger."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from schemas.request import InferenceRequest
from schemas.result import InferenceResult
from streams.client.client import to_tensor
from tests.support.broker import unique
from tests.support.exchange import exchange
from tests.support.served import MODEL
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(300)
RNG = np.random.default_rng(7)


@pytest.fixture
def stack(whole_stack: RunningStack) -> Iterator[RunningStack]:
    yield whole_stack
    books = whole_stack.isos_json("ledger", "--drained")
    assert (books["missing"], books["duplicated"], books["in_flight"], books["reaped"]) == (0, 0, 0, 0)


def request(**fields: object) -> InferenceRequest:
    row = RNG.standard_normal((1, 256), np.float32)
    return InferenceRequest(**{"request_id": unique("id"), "model": MODEL, "inputs": (to_tensor("x", row),), **fields})  # type: ignore[arg-type]


def another_input(first: InferenceRequest) -> InferenceRequest:
    return dataclasses.replace(first, inputs=request().inputs)


def code(result: InferenceResult) -> str:
    return result.error.code if result.error is not None else result.status


def is_repetition(again: InferenceResult, first: InferenceResult) -> bool:
    """Whether ``again`` is the answer of ``first`` under another coordinate."""
    assert again.source != first.source
    same = dataclasses.replace(first.provenance, cached=True)
    return (again.status, again.outputs, again.provenance, again.request_id, again.model_version) == (
        *("OK", first.outputs, same, first.request_id, first.model_version),
    )


async def test_twice_in_sequence_is_the_earlier_answer_again(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        first = await kafka.ask(sent)
        assert (first.status, first.provenance.cached) == ("OK", False)
        for _ in range(2):
            assert is_repetition(await kafka.ask(sent), first)
        slower = dataclasses.replace(sent, timeout_ms=99_000, priority=1, routing_key="k")
        assert is_repetition(await kafka.ask(slower), first)


async def test_on_two_partitions(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        first = await kafka.ask(sent, 0)
        again = await kafka.ask(sent, 1)
        assert again.source.partition == 1
        assert is_repetition(again, first)
        assert code(await kafka.ask(another_input(sent), 1)) == "id_conflict"


async def test_twice_at_once_is_processed_once(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        for partitions in ((0, 0), (0, 1)):
            sent = request()
            places = await asyncio.gather(*(kafka.send(sent, partition) for partition in partitions))
            results = await asyncio.gather(*(kafka.result(place) for place in places))
            processed = [each for each in results if each.status == "OK" and not each.provenance.cached]
            assert len(processed) == 1
            (other,) = (each for each in results if each is not processed[0])
            assert code(other) == "duplicate_in_flight" or is_repetition(other, processed[0])


async def test_while_the_first_is_under_way_it_is_refused_at_once(stack: RunningStack) -> None:
    """The executor stands still, so the first cannot end before the second is judged."""
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        frozen = stack.freeze("executor-0")
        try:
            first = await kafka.send(sent)
            other = await kafka.ask(sent, seconds=20)
            assert code(other) == "duplicate_in_flight"
            assert other.error is not None
            assert f"offset {first[1]} " in other.error.message
            assert code(await kafka.ask(another_input(sent), 1, seconds=20)) == "id_conflict"
        finally:
            stack.thaw(frozen)
        done = await kafka.result(first)
        assert done.status == "OK"
        assert is_repetition(await kafka.ask(sent), done)


async def test_another_input_or_pinned_version_is_a_conflict(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        first = await kafka.ask(sent)
        assert first.status == "OK"
        for other in (another_input(sent), dataclasses.replace(sent, version="v1.0.0")):
            assert code(await kafka.ask(other)) == "id_conflict"
        assert is_repetition(await kafka.ask(sent), first)


async def test_another_tenant_may_use_the_same_id(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        for tenant in ("one", "two"):
            result = await kafka.ask(dataclasses.replace(sent, tenant=tenant))
            assert (result.status, result.provenance.cached) == ("OK", False)


async def test_what_did_not_end_ok_frees_its_id(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        assert code(await kafka.ask(dataclasses.replace(sent, timeout_ms=1))) == "deadline_exceeded"
        assert code(await kafka.ask(dataclasses.replace(sent, model="nobody-has-this"))) == "unknown_model"
        fresh = another_input(sent)
        result = await kafka.ask(fresh)
        assert (result.status, result.provenance.cached) == ("OK", False)
        assert code(await kafka.ask(sent)) == "id_conflict"


async def test_a_thousand_repetitions_of_one_id_delay_nobody(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        first = await kafka.ask(sent)
        places = await asyncio.gather(*(kafka.send(sent, n % 2) for n in range(1_000)))
        good = await kafka.ask(request(), seconds=20)
        assert good.status == "OK"
        for place in places:
            result = await kafka.result(place)
            assert code(result) == "duplicate_in_flight" or is_repetition(result, first)
        assert is_repetition(await kafka.ask(sent), first)


async def test_after_redis_was_emptied(stack: RunningStack) -> None:
    """From the edge's own memory at once; after its restart from results, without a digest."""
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        first = await kafka.ask(sent)
        redis.Redis.from_url(stack.settings.redis_address).flushall()
        assert is_repetition(await kafka.ask(sent), first)
        assert code(await kafka.ask(another_input(sent), 1)) == "id_conflict"


async def test_across_a_kill_of_the_edge(stack: RunningStack) -> None:
    async with exchange(stack.settings.bootstrap) as kafka:
        sent, at_once = request(), request()
        first = await kafka.ask(sent)
        places = [await kafka.send(at_once, n % 2) for n in range(4)]
        pid = stack.kill("edge-0")
        places += [await kafka.send(at_once, n % 2) for n in range(4)]
        stack.wait_restarted("edge-0", pid)
        assert is_repetition(await kafka.ask(sent), first)
        assert code(await kafka.ask(another_input(sent), 1)) == "id_conflict"
        results = [await kafka.result(place) for place in places]
        assert [each.status for each in results if not each.provenance.cached].count("OK") == 1
        assert {code(each) for each in results} <= {"OK", "duplicate_in_flight"}


async def test_after_redis_was_emptied_and_the_edge_killed(stack: RunningStack) -> None:
    """Nobody remembers: ids come back from results, digests from the requests themselves."""
    async with exchange(stack.settings.bootstrap) as kafka:
        sent = request()
        first = await kafka.ask(sent)
        restored = stack.log("edge-0").count("are restored")
        pid = stack.kill("edge-0")
        redis.Redis.from_url(stack.settings.redis_address).flushall()
        stack.wait_restarted("edge-0", pid)
        for partition in range(2):
            await kafka.ask(request(), partition)  # a partition is looked at with its first request
        wait_until(lambda: stack.log("edge-0").count("are restored") >= restored + 2, 60, "the restoration")
        assert is_repetition(await kafka.ask(sent), first)
        assert code(await kafka.ask(another_input(sent), 1)) == "id_conflict"


async def test_while_redis_is_away(stack: RunningStack) -> None:
    """What the edge saw itself still counts; what it saw meanwhile is shared again afterwards."""
    async with exchange(stack.settings.bootstrap) as kafka:
        sent, meanwhile = request(), request(request_id=uuid.uuid4().hex)
        first = await kafka.ask(sent)
        pid = stack.kill("redis")
        again = await kafka.ask(sent)
        second = await kafka.ask(meanwhile)
        assert is_repetition(again, first)
        assert is_repetition(await kafka.ask(meanwhile, 1), second)
        stack.wait_restarted("redis", pid)
        assert is_repetition(await kafka.ask(sent), first)
        assert code(await kafka.ask(another_input(meanwhile))) == "id_conflict"

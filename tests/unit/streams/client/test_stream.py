"""Streams of answers: order, back-pressure, errors, and what leaving early gives up."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from streams.client.answer import Answer, NoResultError
from streams.client.request import Request
from tests.support.loopback_client import LoopbackClient, echo


def requests(*models):
    return [Request(model, {"x": np.full((1, 1), number)}) for number, model in enumerate(models)]


def number_of(answer):
    return int(answer.outputs["x"][0, 0])


def last_first(client):
    """Turn the order of completion round, once all requests are under way."""
    client.answers.reverse()
    client.release()


@pytest.mark.parametrize(("ordered", "expected"), [(False, [2, 1, 0]), (True, [0, 1, 2])])
async def test_order_of_completion_or_of_the_requests(ordered, expected):
    async with LoopbackClient(held=True) as client:
        found = []

        async def read():
            async for answer in client.stream(requests("m", "m", "m"), ordered=ordered):
                found.append(number_of(answer))

        reading = asyncio.create_task(read())
        while len(client.sent) < 3:
            await asyncio.sleep(0)
        last_first(client)
        await reading
        assert found == expected


async def test_an_asynchronous_iterable():
    async def endless():
        while True:
            yield Request("m", {"x": np.zeros((1, 1))})

    async with LoopbackClient(max_in_flight=5) as client:
        async with aclosing(client.stream(endless())) as answers:
            found = [await anext(answers) for _ in range(20)]
        assert all(answer.ok for answer in found)
        assert len(client.sent) <= 20 + 5
        assert len(client._calls) == 0


async def test_a_reader_that_is_slow_holds_the_requests_back():
    taken = []

    def counted():
        for request in requests(*["m"] * 100):
            taken.append(request)
            yield request

    async with LoopbackClient(max_in_flight=4) as client, aclosing(client.stream(counted())) as answers:
        await anext(answers)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(taken) <= 6


async def test_refusals_are_answers_and_do_not_end_it():
    async with LoopbackClient() as client:
        found = [answer.result.status async for answer in client.stream(requests("m", "refuse", "m"), ordered=True)]
    assert found == ["OK", "REJECTED", "OK"]


async def test_a_missing_result_ends_it_or_is_returned():
    async with LoopbackClient() as client:
        models = requests("silent", "m")
        with pytest.raises(NoResultError):
            _ = [answer async for answer in client.stream(models, ordered=True, wait_s=0.05)]
        assert len(client._calls) == 0
        arriving = client.stream(models, wait_s=0.05, return_exceptions=True)
        assert {type(each) async for each in arriving} == {Answer, NoResultError}


async def test_leaving_early_gives_the_rest_up():
    def slow(name, request, place):
        return echo(name, request, place) if place[1] == 0 else None

    async with LoopbackClient(slow) as client:
        async with aclosing(client.stream(requests(*["m"] * 10))) as answers:
            await anext(answers)
        assert len(client._calls) == 0


async def test_an_error_of_the_callers_iterable_is_the_callers():
    def broken():
        yield from requests("m")
        raise KeyError("mine")

    async with LoopbackClient() as client:
        with pytest.raises(KeyError, match="mine"):
            _ = [answer async for answer in client.stream(broken())]
        assert len(client._calls) == 0


async def test_nothing_gives_nothing():
    async with LoopbackClient() as client:
        assert [answer async for answer in client.stream([])] == []

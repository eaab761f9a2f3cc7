"""What nobody answers is ended by the reaper, with a code, and counted apart."""

import asyncio

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.registration import Registrar
from schemas.request import InferenceRequest
from streams.client.client import Client, to_tensor
from streams.connection import Connection
from tests.support.broker import unique
from tests.support.stack import RunningStack, stack_settings

pytestmark = pytest.mark.timeout(240)
MODEL = "bench-00"
ROW = np.zeros((1, 256), np.float32)
COUNT = 20


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """No executor runs, so admitted and routed requests are lost on their way."""
    settings = stack_settings(
        tmp_path_factory.mktemp("reaper"),
        partitions=1, executors=0, default_timeout_ms=2_000, max_timeout_ms=2_000, grace_ms=500,
    )  # fmt: skip
    with RunningStack(settings) as running:
        running.wait_ready()
        asyncio.run(register(settings))
        yield running


async def register(settings):
    async with Registrar(Connection(settings.bootstrap), ModelStore(settings.data_dir)) as registrar:
        await registrar.register(*bench_model(MODEL, 0))


def request(model):
    return InferenceRequest(unique("r"), model, (to_tensor("x", ROW),))


async def send(settings, models):
    async with Client(settings.bootstrap) as client:
        return await asyncio.gather(*(client.submit(request(model), wait_s=60) for model in models))


def test_lost_requests_get_a_code_and_stand_apart_in_the_ledger(stack):
    overtaken = asyncio.run(send(stack.settings, [MODEL] * COUNT + ["nobody-knows-it"]))
    assert {answer.result.error.code for answer in overtaken[:COUNT]} == {"lost"}
    assert {answer.result.status for answer in overtaken[:COUNT]} == {"ERROR"}
    assert overtaken[COUNT].result.error.code == "unknown_model"
    behind_nothing = asyncio.run(send(stack.settings, [MODEL] * COUNT))
    assert {answer.result.status for answer in behind_nothing} == {"EXPIRED"}
    books = stack.isos_json("ledger", "--drained")
    assert books["received"] == 2 * COUNT + 1
    assert books["reaped"] == 2 * COUNT
    assert (books["missing"], books["duplicated"], books["in_flight"]) == (0, 0, 0)

"""The client's promises, with a log that is a list: answers and errors, options, many at once, cancellation, limits."""

import asyncio

import numpy as np
import pytest

import isos
from isos import Client, Request
from schemas.request import BlobRef, InferenceRequest
from streams.client.client import NoResultError, RequestRejectedError, RequestTooLargeError
from streams.connection import UnreachableError
from streams.tensors import to_tensor
from tests.support.client_records import CODEC
from tests.support.loopback_client import LoopbackClient

IMAGE = {"image": np.arange(4, dtype=np.uint8)[np.newaxis]}


def sent_by(client, index=0):
    return CODEC.decode("inference.requests", client.sent[index][2])


async def test_outputs_are_arrays():
    async with LoopbackClient() as client:
        answer = await client.infer("digits", IMAGE)
    assert answer.outputs["image"].tolist() == [[0, 1, 2, 3]]
    assert (answer.ok, answer.read_us) == (True, 5)


async def test_a_result_that_is_not_ok_is_raised_by_infer_and_returned_by_submit():
    async with LoopbackClient() as client:
        with pytest.raises(RequestRejectedError) as raised:
            await client.infer("refuse", IMAGE)
        answer = await client.submit(Request("refuse", IMAGE))
    assert (raised.value.code, raised.value.retry_after_ms) == ("quota_exceeded", 20)
    assert answer.result.status == "REJECTED"


async def test_every_option_goes_into_the_request():
    async with LoopbackClient(tenant="me") as client:
        await client.infer(
            "digits",
            IMAGE,
            version="v1.2.3",
            timeout_ms=100,
            priority=2,
            routing_key="customer",
            request_id="mine",
            blob=BlobRef("0" * 64, 7),
        )
        expected = InferenceRequest(
            "mine",
            "digits",
            (to_tensor("image", IMAGE["image"]),),
            "me",
            "v1.2.3",
            2,
            100,
            "customer",
            BlobRef("0" * 64, 7),
        )
        assert sent_by(client) == expected
        assert client.sent[0][1] == b"customer"


async def test_a_record_is_sent_as_it_is_and_to_the_partition_that_is_named():
    async with LoopbackClient(tenant="me") as client:
        request = InferenceRequest("r-9", "digits", (), tenant="you")
        assert (await client.submit(request, partition=3)).request_id == "r-9"
        assert sent_by(client) == request
        assert client.sent[0][:2] == (3, b"r-9")
        assert 3 in client.reading


async def test_ids_of_their_own_are_unique_and_usable():
    async with LoopbackClient() as client, LoopbackClient() as other:
        ids = [(await each.infer("digits", IMAGE)).request_id for each in (client, other) for _ in range(50)]
    assert len(set(ids)) == 100
    assert {len(each) for each in ids} == {32}


async def test_a_key_chooses_the_partition_and_its_results_are_read_before_it_is_sent_there():
    class Checked(LoopbackClient):
        def put(self, call, partition, key, value):
            assert partition in self.reading
            super().put(call, partition, key, value)

    async with Checked(num_partitions=64) as client:
        for number in range(40):
            await client.infer("digits", IMAGE, routing_key=f"key-{number % 20}")
        places = {key: {place for place, each, _ in client.sent if each == key} for _, key, _ in client.sent}
        assert {len(found) for found in places.values()} == {1}
        assert len(set.union(*places.values())) > 5
        await client.infer("digits", IMAGE)
        await client.infer("digits", IMAGE)
        assert client.sent[-1][0] == client.sent[-2][0] == client.reading[0]


@pytest.mark.parametrize("value", [b"garbage", None])
async def test_any_bytes_can_be_exchanged(value):
    async with LoopbackClient() as client:
        answer = await client.exchange(value)
        assert answer.result.error.code == "garbage"
        assert client.sent[0][1:] == (None if value else b"", value)


async def test_only_bytes_can_be_exchanged():
    async with LoopbackClient() as client:
        with pytest.raises(TypeError, match="bytes or None"):
            await client.exchange("text")
        assert len(client._calls) == 0


async def test_many_in_their_order():
    async with LoopbackClient() as client:
        inputs = [{"x": np.full((1, 1), number, np.int64)} for number in range(50)]
        answers = await client.infer_many(Request("digits", each) for each in inputs)
        assert [int(answer.outputs["x"][0, 0]) for answer in answers] == list(range(50))
        mixed = [Request("digits", IMAGE), Request("refuse", IMAGE)]
        with pytest.raises(RequestRejectedError):
            await client.infer_many(mixed)
        found = await client.infer_many(mixed, return_exceptions=True)
        assert [type(each) for each in found] == [isos.Answer, RequestRejectedError]
        assert [answer.result.status for answer in await client.submit_many(mixed)] == ["OK", "REJECTED"]
        assert len(client._calls) == 0


async def test_no_more_than_allowed_are_under_way():
    async with LoopbackClient(held=True, max_in_flight=3) as client:
        calls = [asyncio.create_task(client.infer("digits", IMAGE)) for _ in range(10)]
        for _ in range(4):
            await asyncio.sleep(0)
        assert len(client.sent) == 3
        client.held = False
        client.release()
        assert len(await asyncio.gather(*calls)) == 10


async def test_a_cancelled_call_leaves_nothing_and_its_late_result_is_dropped():
    async with LoopbackClient(held=True, max_in_flight=1) as client:
        call = asyncio.create_task(client.infer("digits", IMAGE))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(client._calls) == 0
        client.release()
        client.held = False
        assert (await client.infer("digits", IMAGE)).ok


async def test_no_result_is_a_time_out_of_the_call_that_may_be_shorter_than_the_servers_budget():
    async with LoopbackClient() as client:
        with pytest.raises(NoResultError, match=r"has no result after 0\.01 s"):
            await client.infer("silent", IMAGE, timeout_ms=60_000, wait_s=0.01)
        assert len(client._calls) == 0


async def test_what_cannot_be_sent_is_said_at_once_and_leaves_nothing():
    async with LoopbackClient() as client:
        with pytest.raises(ValueError, match="no Open Inference Protocol datatype"):
            await client.infer("digits", {"image": np.array([1j])})
        with pytest.raises(RequestTooLargeError, match="a record may have 12578816"):
            await client.infer("digits", {"image": np.zeros((1, 13_000_000), np.uint8)})
        assert (len(client._calls), client.sent) == (0, [])


async def test_a_closed_client_says_so():
    with pytest.raises(UnreachableError, match="async with"):
        await Client("127.0.0.1:1").infer("digits", {})


async def test_closing_ends_what_waits():
    client = await LoopbackClient(held=True).__aenter__()
    call = asyncio.create_task(client.infer("digits", IMAGE))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(UnreachableError, match="the client was closed"):
        await call
    await client.close()


async def test_a_client_that_does_not_read_any_more_says_so():
    async with LoopbackClient() as client:
        client.is_alive = False
        with pytest.raises(UnreachableError, match="open a new client"):
            await client.infer("digits", IMAGE)


async def test_limits_are_checked():
    for options in ({"max_in_flight": 0}, {"partitions": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Client("nowhere", **options)


def test_the_public_face_names_what_it_has():
    assert all(hasattr(isos, name) for name in isos.__all__)

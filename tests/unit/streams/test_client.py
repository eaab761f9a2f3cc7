"""Tensors there and back, errors by status, and the race between an acknowledgement and its result."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import isos
from schemas.request import Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Timing
from streams.client import DTYPES, Client, InferenceError, NoResultError, default_bootstrap, to_array, to_tensor
from streams.codec import Codec, SchemaIds
from streams.connection import UnreachableError
from streams.ledger import SOURCE


def result(status="OK", error=None, outputs=(), offset=0):
    return InferenceResult(
        request_id="r-1",
        tenant="default",
        received_us=1,
        source=Source(bytes(16), 0, offset),
        status=status,
        error=error,
        model="digits",
        model_version="v1.0.0",
        provenance=Provenance("", 0, "", "", 0, 0, "", "", False),
        timing=Timing(0, 0, 0, 0),
        outputs=outputs,
    )


@given(hnp.arrays(st.sampled_from(list(DTYPES.values())), hnp.array_shapes(max_dims=3)))
def test_tensor_round_trip(values):
    tensor = to_tensor("x", values)
    back = to_array(tensor)
    assert (back.dtype, back.shape, back.tobytes()) == (values.dtype, values.shape, values.tobytes())


def test_big_endian_and_strided_arrays_become_little_endian_and_row_major():
    values = np.arange(12, dtype=">i4").reshape(3, 4).T
    tensor = to_tensor("x", values)
    assert (tensor.datatype, tensor.shape) == ("INT32", (4, 3))
    assert tensor.data == values.astype("<i4").tobytes(order="C")


def test_types_without_a_datatype_are_refused():
    with pytest.raises(ValueError, match="no Open Inference Protocol datatype"):
        to_tensor("x", np.array(["a"]))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("REJECTED", isos.RequestRejectedError),
        ("EXPIRED", isos.RequestExpiredError),
        ("ERROR", isos.RequestFailedError),
    ],
)
async def test_a_result_that_is_not_ok_is_raised_with_its_code(status, kind):
    client = ready_client()
    client.send_result(result(status, ResultError("quota_exceeded", "wait", 20)))
    with pytest.raises(kind) as raised:
        await client.infer("digits", {"image": np.zeros((1, 4), np.uint8)})
    assert (raised.value.code, raised.value.retry_after_ms, raised.value.request_id) == ("quota_exceeded", 20, "r-1")
    assert isinstance(raised.value, InferenceError)


async def test_outputs_are_arrays():
    client = ready_client()
    client.send_result(result(outputs=(Tensor("scores", "FP32", (1, 2), np.array([1, 2], "<f4").tobytes()),)))
    answer = await client.infer("digits", {"image": np.zeros((1, 4), np.uint8)})
    assert answer.outputs["scores"].tolist() == [[1.0, 2.0]]


async def test_a_result_before_its_acknowledgement_is_found():
    client = ready_client(result_first=True)
    client.send_result(result())
    assert (await client.infer("digits", {})).result.status == "OK"
    assert client._early == {}


async def test_results_of_others_are_not_kept():
    client = ready_client()
    client._take(record(result(offset=77)), 1)
    assert client._early == {}
    client.send_result(result())
    client._take(record(result(offset=78)), 1)
    await client.infer("digits", {})
    assert (client._early, client._waiting) == ({}, {})


async def test_no_result_is_a_time_out_that_names_the_request():
    client = ready_client()
    with pytest.raises(NoResultError, match="request raw has no result after 0"):
        await client.exchange(b"garbage", wait_s=0.01, name="raw")
    assert client._waiting == {}


async def test_a_closed_client_says_so():
    with pytest.raises(UnreachableError, match="async with"):
        await Client("127.0.0.1:1").infer("digits", {})


def test_bootstrap_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("ISOS_BROKERS", raising=False)
    monkeypatch.setenv("ISOS_BROKER_PORT", "1234")
    assert default_bootstrap() == "127.0.0.1:1234"
    monkeypatch.setenv("ISOS_BROKERS", "broker:9")
    assert default_bootstrap() == "broker:9"


CODEC = Codec(SchemaIds.local())


def record(answer):
    headers = [("isos-source", SOURCE.pack(bytes(16), answer.source.partition, answer.source.offset))]
    return SimpleNamespace(headers=headers, value=CODEC.encode("inference.results", answer))


class ready_client(Client):  # noqa: N801
    """A client whose log is two lines of Python: every send lands on partition 0, offset 0, and gets the set result."""

    def __init__(self, *, result_first=False):
        super().__init__("nowhere")
        self._codec = CODEC
        self._producer = self
        self._result_first = result_first
        self._answer = None
        self._reader = asyncio.get_running_loop().create_future()

    def send_result(self, answer):
        self._answer = answer

    async def send_and_wait(self, topic, value, key):
        if self._answer is not None:
            if self._result_first:
                self._take(record(self._answer), 5)
            else:
                asyncio.get_running_loop().call_later(0, self._take, record(self._answer), 5)
        return SimpleNamespace(partition=0, offset=0)

"""Encoding both kinds of requests; what happens at a schema id that is not known."""

import numpy as np
import pytest

from schemas.request import InferenceRequest
from streams.client import codec as client_codec
from streams.client.codec import ClientCodec
from streams.client.request import Request
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.tensors import to_tensor
from tests.support.client_records import result

OLD, NEW = Codec(SchemaIds.local(1)), Codec(SchemaIds.local(101))


@pytest.fixture
def registered(monkeypatch):
    """What the schema log holds, one entry per question; asking may be repeated at once."""
    views = []

    async def read(connection):
        return views.pop(0).ids

    monkeypatch.setattr(client_codec, "read_schema_ids", read)
    monkeypatch.setattr(client_codec, "ASK_AGAIN_S", 0.0)
    return views


async def opened(registered):
    registered.append(OLD)
    return await ClientCodec.open(Connection("nowhere"))


async def test_requests_and_records_are_written_alike(registered):
    codec = await opened(registered)
    image = np.zeros((1, 4), np.uint8)
    request = Request("digits", {"image": image}, "v1.0.0", 3, 100, "key", "ignored", None)
    record = InferenceRequest(
        "r-1", "digits", (to_tensor("image", image),), "me", "v1.0.0", 3, 100, "key", None
    )  # fmt: skip
    assert (
        codec.encode(request, "r-1", "me") == codec.encode(record, "", "") == OLD.encode("inference.requests", record)
    )


async def test_a_result_is_read_without_a_question(registered):
    codec = await opened(registered)
    assert await codec.decode(OLD.encode("inference.results", result())) == result()


async def test_an_unknown_schema_is_asked_for_once(registered):
    codec = await opened(registered)
    registered.append(NEW)
    value = NEW.encode("inference.results", result())
    assert await codec.decode(value) == result()
    assert await codec.decode(value) == result()
    request = InferenceRequest("r-1", "digits", ())
    assert codec.encode(request, "", "") == NEW.encode("inference.requests", request)


async def test_a_schema_that_stays_unknown_is_said(registered):
    codec = await opened(registered)
    registered.append(OLD)
    with pytest.raises(PoisonRecordError, match="unknown_schema"):
        await codec.decode(NEW.encode("inference.results", result()))


async def test_garbage_is_said_without_a_question(registered):
    codec = await opened(registered)
    value = OLD.encode("inference.results", result())
    for broken in (value[:-1], value + b"\0", b"abc"):
        with pytest.raises(PoisonRecordError, match="garbage"):
            await codec.decode(broken)

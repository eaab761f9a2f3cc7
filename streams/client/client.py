"""Our client: send a request, get its one result.

    async with Client() as isos:
        answer = await isos.infer("digits", {"image": images})   # uint8 [n, 64], n at most 128
        answer.outputs["classes"]                                # int64 [n, 3]

Any number of calls may run at once; at most ``max_in_flight`` are under way, the others wait for a place. A result is
found by coordinate and id: it stands on the partition that its request was written to and names its offset in a header,
so results of others are passed over without decoding. Only those partitions are read, from their ends, without a group.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from itertools import count
from types import TracebackType
from typing import Any, Final, Literal, Self, overload

from schemas.request import BlobRef, InferenceRequest
from streams.client.answer import (
    Answer,
    InferenceError,
    NoResultError,
    RequestExpiredError,
    RequestFailedError,
    RequestRejectedError,
    RequestTooLargeError,
    answer_of,
)
from streams.client.calls import Call, Calls, expected_ids
from streams.client.codec import REQUESTS, RESULTS, ClientCodec
from streams.client.partitions import Partitions
from streams.client.request import DEFAULT_WAIT_S, Request, Requests, default_bootstrap, wait_for
from streams.client.results import Results
from streams.client.sender import Sender
from streams.client.stream import stream
from streams.codec import Codec
from streams.connection import Connection, UnreachableError
from streams.errors import IsosError
from streams.tensors import DTYPES, Array, to_array, to_bf16, to_tensor
from streams.topics import MAX_RECORD_BYTES, full_name

__all__ = [
    "DTYPES",
    "Answer",
    "Array",
    "Client",
    "InferenceError",
    "NoResultError",
    "Request",
    "RequestExpiredError",
    "RequestFailedError",
    "RequestRejectedError",
    "RequestTooLargeError",
    "default_bootstrap",
    "to_array",
    "to_bf16",
    "to_tensor",
]

MAX_IN_FLIGHT: Final = 1_000
MAX_VALUE_BYTES: Final = MAX_RECORD_BYTES - 4_096  # the broker counts the key and the headers of record and batch too


class Client:
    """Connects on ``async with``; safe for any number of concurrent calls on one loop.

    ``max_in_flight``: calls under way at once. ``partitions``: how many, chosen at random, take the requests without a
    routing key; results of no others are read. ``topics``: names of requests and results on the broker.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        connection: Connection | None = None,
        tenant: str = "default",
        max_in_flight: int = MAX_IN_FLIGHT,
        partitions: int = 1,
        topics: tuple[str, str] = (full_name(REQUESTS), full_name(RESULTS)),
    ) -> None:
        if max_in_flight < 1 or partitions < 1:
            raise ValueError("max_in_flight and partitions are at least 1")
        self.max_in_flight = max_in_flight
        self._connection = connection or Connection(bootstrap or default_bootstrap())
        self._tenant = tenant
        self._calls = Calls(max_in_flight)
        self._topics = topics
        self._sender = Sender(self._connection, topics[0], self._calls)
        self._results = Results(self._connection, topics[1], self._calls.take, self._calls.fail_all)
        self._partitions = Partitions(self._num_partitions, self._results, partitions)
        self._codec: ClientCodec | None = None
        run = os.urandom(10).hex()
        self._ids = (f"{run}{number:012x}" for number in count())

    async def __aenter__(self) -> Self:
        try:
            await self._sender.start()
            self._codec = await ClientCodec.open(self._connection)
            await self._results.start()
            await self._partitions.start()
        except BaseException:  # also a cancelled start: leave no client behind
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect; calls that still wait end with UnreachableError. May be repeated."""
        self._codec = None
        self._calls.shut(UnreachableError("waiting for a result", "the client was closed"))
        await self._results.stop()
        await self._sender.stop()

    @property
    def codec(self) -> Codec:
        """The codec of this connection; there is one between open and close."""
        return self._open_codec().codec

    def _open_codec(self) -> ClientCodec:
        if self._codec is None:
            raise UnreachableError("using the client", "it is not open: use `async with Client() as isos`")
        if not self._results.is_alive:
            raise UnreachableError("sending a request", "results are no longer read; open a new client")
        return self._codec

    async def _num_partitions(self) -> int:
        """Partitions that both topics have."""
        return min([await self._sender.num_partitions(topic) for topic in self._topics])

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: str | None = None,
        timeout_ms: int = 0,
        priority: int = 5,
        routing_key: str | None = None,
        request_id: str | None = None,
        blob: BlobRef | None = None,
        wait_s: float | None = None,
    ) -> Answer:
        """Outputs of a model for named input arrays, whose first axis is the batch (1 to 128 items).

        ``timeout_ms`` is the server's budget, 0: its policy's; ``wait_s`` how long this call waits at most (default:
        the budget and 15 s, or 60 s). A cancelled call leaves nothing behind. Raises RequestRejectedError,
        RequestExpiredError or RequestFailedError with a code; NoResultError when nothing came back;
        RequestTooLargeError above 12 MiB; RetriableError when the broker is away.
        """
        request = Request(model, inputs, version, priority, timeout_ms, routing_key, request_id, blob)
        return (await self.submit(request, wait_s=wait_s)).raise_for_status()

    async def submit(
        self, request: Request | InferenceRequest, *, wait_s: float | None = None, partition: int | None = None
    ) -> Answer:
        """Send a request as it is and return its result, whatever its status; raises like ``infer`` otherwise.

        ``partition`` chooses the place; the default is the client's own choice, or the routing key's.
        """
        return await self.finish(await self.begin(request, wait_s=wait_s, partition=partition))

    async def exchange(
        self,
        value: bytes | None,
        key: bytes | None = None,
        *,
        wait_s: float = DEFAULT_WAIT_S,
        name: str = "(raw)",
        partition: int | None = None,
    ) -> Answer:
        """Send any bytes as a request record, also ones that are no request, and return the result of that record."""
        if not all(isinstance(each, bytes | None) for each in (value, key)):
            raise TypeError("value and key of a record are bytes or None")
        # The library refuses a record without value and key; an empty key is as good as none.
        key = b"" if value is None and key is None else key
        return await self.finish(await self._begin(name, None, key, lambda: value, wait_s, None, partition))

    @overload
    async def infer_many(
        self, requests: Requests, *, wait_s: float | None = ..., return_exceptions: Literal[False] = ...
    ) -> list[Answer]: ...
    @overload
    async def infer_many(
        self, requests: Requests, *, wait_s: float | None = ..., return_exceptions: bool
    ) -> list[Answer | IsosError]: ...
    async def infer_many(
        self, requests: Requests, *, wait_s: float | None = None, return_exceptions: bool = False
    ) -> list[Answer] | list[Answer | IsosError]:
        """Answers of many requests, in their order. The first error is raised, unless it is to stand in the list."""
        answers: list[Any] = []
        async with aclosing(self.stream(requests, ordered=True, wait_s=wait_s, return_exceptions=True)) as arriving:
            async for answer in arriving:
                error = answer if isinstance(answer, IsosError) else answer.error()
                if error is not None and not return_exceptions:
                    raise error
                answers.append(error or answer)
        return answers

    async def submit_many(self, requests: Requests, *, wait_s: float | None = None) -> list[Answer]:
        """Answers of many requests, in their order, whatever their status; raises like ``submit`` otherwise."""
        async with aclosing(self.stream(requests, ordered=True, wait_s=wait_s)) as arriving:
            return [answer async for answer in arriving]

    @overload
    def stream(
        self,
        requests: Requests,
        *,
        ordered: bool = ...,
        wait_s: float | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> AsyncGenerator[Answer, None]: ...
    @overload
    def stream(
        self, requests: Requests, *, ordered: bool = ..., wait_s: float | None = ..., return_exceptions: bool
    ) -> AsyncGenerator[Answer | IsosError, None]: ...
    def stream(
        self,
        requests: Requests,
        *,
        ordered: bool = False,
        wait_s: float | None = None,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Answers as they come, whatever their status, or in the order of the requests (``ordered``).

        Requests are taken from the iterable as there is room, so it may be endless. ``answer.raise_for_status()``
        raises what ``infer`` would. NoResultError and RetriableError end the stream, unless they are to be returned.
        """
        return stream(self, requests, ordered=ordered, wait_s=wait_s, return_exceptions=return_exceptions)

    async def begin(
        self, request: Request | InferenceRequest, *, wait_s: float | None = None, partition: int | None = None
    ) -> Call:
        """Send a request when there is room for it, and do not wait for the result; ``finish`` does."""
        codec = self._open_codec()
        request_id = request.request_id if request.request_id is not None else next(self._ids)
        key = (request.routing_key or request_id).encode()
        return await self._begin(
            request_id,
            expected_ids(request_id, key),
            key,
            lambda: codec.encode(request, request_id, self._tenant),
            wait_for(request.timeout_ms, wait_s),
            request.routing_key or None,
            partition,
        )

    async def finish(self, call: Call) -> Answer:
        """The result of a call that was begun, whatever its status."""
        try:
            value, read_us = await call.future
        finally:
            self._calls.close(call)
        codec = self._open_codec()
        answer = answer_of(await codec.decode(value), read_us)
        if answer.result.error is not None and answer.result.error.code == "unknown_schema":
            await codec.learn()  # the schema's id is another one by now: the next request carries it
        return answer

    def drop(self, call: Call) -> None:
        """Give a call up; its result is passed over when it comes."""
        self._calls.close(call)

    async def _begin(
        self,
        name: str,
        ids: tuple[bytes, ...] | None,
        key: bytes | None,
        encode: Callable[[], bytes | None],
        wait_s: float,
        routing_key: str | None,
        partition: int | None,
    ) -> Call:
        self._open_codec()
        call = await self._calls.open(name, ids, wait_s)
        try:
            if self._partitions.is_due:
                await self._partitions.look()
            place = self._partitions.choose(routing_key) if partition is None else partition
            if not self._partitions.is_ready(place):
                await self._partitions.prepare(place)
            value = encode()
            if value is not None and len(value) > MAX_VALUE_BYTES:
                raise RequestTooLargeError(name, len(value), MAX_VALUE_BYTES)
            self._sender.put(call, place, key, value)
            await self._sender.room()
        except BaseException:  # whatever it was, also a cancelled call: no call is left behind
            self._calls.close(call)
            raise
        return call

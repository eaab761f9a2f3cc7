"""Our client: send a request, get its one result. Many at once: start as many ``infer`` as wanted.

    async with Client() as isos:
        answer = await isos.infer("digits", {"image": images})   # uint8 [n, 64], n at most 128
        answer.outputs["classes"]                                # int64 [n, 3]

A result is found by coordinate: it stands on the partition that its request was written to and names its offset in a
header, so results of others are passed over without decoding. The client reads from the end of the log at its start.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from schemas.request import InferenceRequest, Tensor
from schemas.result import InferenceResult
from streams.codec import Codec
from streams.connection import Connection, UnreachableError, bounded, consumer, producer, start, stop_quietly
from streams.errors import IsosError, RetriableError
from streams.ledger import source_of
from streams.schema_log import read_schema_ids
from streams.topics import full_name

REQUESTS: Final = "inference.requests"
RESULTS: Final = "inference.results"
SEND_TIMEOUT_S: Final = 30.0
DEFAULT_WAIT_S: Final = 60.0
GRACE_S: Final = 15.0  # the server answers EXPIRED by itself; this is for its reaper and the way back
FETCH_MS: Final = 200

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
        "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    }.items()
}  # fmt: skip
"""Open Inference Protocol datatypes and the numpy types that carry them."""

_DATATYPES: Final = {dtype: name for name, dtype in DTYPES.items()}

Array = NDArray[Any]


class InferenceError(IsosError):
    """A request did not end OK: ``status``, ``code`` of the closed list, sentence, id, ms until a retry (0: none)."""

    def __init__(self, result: InferenceResult) -> None:
        error = result.error
        self.status = result.status
        self.code = error.code if error else "internal"
        self.message = error.message if error else ""
        self.retry_after_ms = error.retry_after_ms if error else 0
        self.request_id = result.request_id
        super().__init__(self.status, self.code, self.message, self.request_id)

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.status} {self.code}: {self.message}"


class RequestRejectedError(InferenceError):
    """The request is refused as it stands; the same again will be refused again, unless ``retry_after_ms`` is set."""


class RequestExpiredError(InferenceError):
    """The deadline passed before there was an answer."""


class RequestFailedError(InferenceError):
    """The server could not answer."""


class NoResultError(RetriableError):
    """No result arrived within ``seconds``; the request may still be answered in the log."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(request_id, seconds)
        self.request_id = request_id
        self.seconds = seconds

    def __str__(self) -> str:
        return f"request {self.request_id} has no result after {self.seconds:g} s"


_ERRORS: Final = {"REJECTED": RequestRejectedError, "EXPIRED": RequestExpiredError, "ERROR": RequestFailedError}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result: its output tensors by name (read-only views of the record), the record, when it was read (us)."""

    outputs: Mapping[str, Array]
    result: InferenceResult
    read_us: int


def default_bootstrap() -> str:
    """Kafka addresses from ``ISOS_BROKERS``, else the local stack's (port ``ISOS_BROKER_PORT``, 19092)."""
    return os.environ.get("ISOS_BROKERS") or f"127.0.0.1:{os.environ.get('ISOS_BROKER_PORT', '19092')}"


def to_tensor(name: str, values: Array) -> Tensor:
    """Tensor of an array, row-major and little-endian; ValueError for a type without an Open Inference datatype."""
    little = values.dtype.newbyteorder("<")
    if little not in _DATATYPES:
        raise ValueError(f"input {name} has the type {values.dtype}, which has no Open Inference Protocol datatype")
    data = np.ascontiguousarray(values, dtype=little).tobytes()
    return Tensor(name, _DATATYPES[little], values.shape, data)


def to_array(tensor: Tensor) -> Array:
    """Array of a tensor: a read-only view of its bytes."""
    return np.frombuffer(tensor.data, DTYPES[tensor.datatype]).reshape(tensor.shape)


class Client:
    """Connects on ``async with``; safe for any number of concurrent calls on one loop."""

    def __init__(
        self, bootstrap: str | None = None, *, connection: Connection | None = None, tenant: str = "default"
    ) -> None:
        self._connection = connection or Connection(bootstrap or default_bootstrap())
        self._tenant = tenant
        self._waiting: dict[tuple[int, int], asyncio.Future[tuple[bytes, int]]] = {}
        self._early: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._num_sending = 0
        self._producer: Any = None
        self._consumer: Any = None
        self._codec: Codec | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:  # also a cancelled start: leave no client behind
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> None:
        self._producer = producer(self._connection, enable_idempotence=True)
        await start(self._producer, "connecting to send requests")
        self._codec = Codec(await read_schema_ids(self._connection))
        partitions = await bounded(
            self._producer.partitions_for(full_name(REQUESTS)), SEND_TIMEOUT_S, "asking for topics"
        )
        places = [TopicPartition(full_name(RESULTS), number) for number in sorted(partitions)]
        self._consumer = consumer(self._connection, isolation_level="read_committed")
        await start(self._consumer, "connecting to read results")
        self._consumer.assign(places)
        ends = await bounded(self._consumer.end_offsets(places), SEND_TIMEOUT_S, "asking for the end of the results")
        for place, end in ends.items():
            self._consumer.seek(place, end)
        self._reader = asyncio.create_task(self._read(), name="isos-results")

    async def close(self) -> None:
        """Disconnect; calls that still wait are cancelled."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()
        for client in (self._consumer, self._producer):
            if client is not None:
                await stop_quietly(client)
        self._consumer = self._producer = self._reader = None

    @property
    def codec(self) -> Codec:
        """The codec of this connection; there is one between open and close."""
        if self._codec is None:
            raise UnreachableError("using the client", "it is not open: use `async with Client() as isos`")
        return self._codec

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
    ) -> Answer:
        """Outputs of a model for named input arrays, whose first axis is the batch (1 to 128 items).

        ``timeout_ms`` 0 leaves the budget to the server's policy. Raises RequestRejectedError, RequestExpiredError or
        RequestFailedError with a code; NoResultError when nothing came back; RetriableError when the broker is away.
        """
        request = InferenceRequest(
            request_id=request_id or uuid.uuid4().hex,
            model=model,
            inputs=tuple(to_tensor(name, values) for name, values in inputs.items()),
            tenant=self._tenant,
            version=version,
            priority=priority,
            timeout_ms=timeout_ms,
            routing_key=routing_key,
        )
        wait_s = timeout_ms / 1000 + GRACE_S if timeout_ms > 0 else DEFAULT_WAIT_S
        answer = await self.submit(request, wait_s=wait_s)
        if answer.result.status != "OK":
            raise _ERRORS[answer.result.status](answer.result)
        return answer

    async def submit(self, request: InferenceRequest, *, wait_s: float = DEFAULT_WAIT_S) -> Answer:
        """Send a request as it is and return its result, whatever its status; raises like ``infer`` otherwise."""
        key = (request.routing_key or request.request_id).encode()
        return await self.exchange(self.codec.encode(REQUESTS, request), key, wait_s=wait_s, name=request.request_id)

    async def exchange(
        self, value: bytes | None, key: bytes | None = None, *, wait_s: float = DEFAULT_WAIT_S, name: str = "(raw)"
    ) -> Answer:
        """Send any bytes as a request record, also ones that are no request, and return the result of that record."""
        place = await self._send(value, key)
        arrived = self._early.pop(place, None)
        if arrived is None:
            future: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()
            self._waiting[place] = future
            self._sent()
            try:
                async with asyncio.timeout(wait_s):
                    arrived = await future
            except TimeoutError:
                raise NoResultError(name, wait_s) from None
            finally:
                self._waiting.pop(place, None)
        else:
            self._sent()
        result: InferenceResult = self.codec.decode(RESULTS, arrived[0])
        outputs = {tensor.name: to_array(tensor) for tensor in result.outputs if tensor.datatype in DTYPES}
        return Answer(outputs, result, arrived[1])

    async def _send(self, value: bytes | None, key: bytes | None) -> tuple[int, int]:
        """Partition and offset of the record. Until ``_sent`` is called, unknown results are kept: one may be ours."""
        if self._reader is None or self._reader.done():
            raise UnreachableError("sending a request", "results are no longer read; open a new client")
        self._num_sending += 1
        try:
            # The library refuses a record without value and key; an empty key is as good as none.
            key = b"" if value is None and key is None else key
            sending = self._producer.send_and_wait(full_name(REQUESTS), value, key=key)
            metadata = await bounded(sending, SEND_TIMEOUT_S, "sending a request")
        except KafkaError as error:
            self._sent()
            raise UnreachableError("sending a request", str(error) or type(error).__name__) from error
        except BaseException:  # also a cancelled call: the count of those under way must stay right
            self._sent()
            raise
        return metadata.partition, metadata.offset

    def _sent(self) -> None:
        self._num_sending -= 1
        if not self._num_sending:
            self._early.clear()

    async def _read(self) -> None:
        try:
            while True:
                batches = await self._consumer.getmany(timeout_ms=FETCH_MS)
                now_us = time.time_ns() // 1000
                for records in batches.values():
                    for record in records:
                        self._take(record, now_us)
        except KafkaError as error:
            failure = UnreachableError("reading results", str(error) or type(error).__name__)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(failure)

    def _take(self, record: Any, now_us: int) -> None:
        source = source_of(record.headers)
        if source is None:
            return
        _, partition, offset = source
        future = self._waiting.get((partition, offset))
        if future is not None and not future.done():
            future.set_result((record.value, now_us))
        elif future is None and self._num_sending:
            self._early[partition, offset] = (record.value, now_us)

"""Values of a client: requests are written with our own schema, results read with whatever they were written with."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from schemas.request import InferenceRequest
from schemas.result import InferenceResult
from streams.client.request import Request
from streams.client.request_writer import write_arrays, write_request
from streams.client.result_reader import read_result
from streams.codec import PREFIX_BYTES, Codec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.registry.schema_log import read_schema_ids

REQUESTS: Final = "inference.requests"
RESULTS: Final = "inference.results"
ASK_AGAIN_S: Final = 1.0


class ClientCodec:
    """Encodes requests and decodes results; asks for the registered schemas again when one is unknown."""

    def __init__(self, connection: Connection, codec: Codec) -> None:
        self.codec = codec
        self._connection = connection
        self._asking = asyncio.Lock()
        self._asked_at = time.monotonic()
        self._refresh()

    @classmethod
    async def open(cls, connection: Connection) -> ClientCodec:
        """A codec with the schemas that are registered now. Raises RetriableError."""
        return cls(connection, Codec(await read_schema_ids(connection)))

    def _refresh(self) -> None:
        self._writing = self.codec.prefix(REQUESTS)
        self._ours = self.codec.prefix(RESULTS)

    def encode(self, request: Request | InferenceRequest, request_id: str, tenant: str) -> bytes:
        """Value of a request; id and tenant are those of the record where it is one. ValueError for what cannot be."""
        if isinstance(request, InferenceRequest):
            return write_request(self._writing, request)
        return write_arrays(
            self._writing,
            request_id,
            request.model,
            request.inputs,
            tenant=tenant,
            version=request.version,
            priority=request.priority,
            timeout_ms=request.timeout_ms,
            routing_key=request.routing_key,
            blob=request.blob,
        )

    async def decode(self, value: bytes) -> InferenceResult:
        """Result record of a value. Raises PoisonRecordError when it holds none, RetriableError when none can say."""
        if value[:PREFIX_BYTES] == self._ours:
            try:
                return read_result(value, PREFIX_BYTES)
            except (ValueError, IndexError, EOFError):
                pass  # the codec knows better what is wrong with it
        try:
            result: InferenceResult = self.codec.decode(RESULTS, value)
        except PoisonRecordError as error:
            if error.code != "unknown_schema":
                raise
            await self.learn()
            result = self.codec.decode(RESULTS, value)
        return result

    async def learn(self) -> None:
        """Read what is registered now, at most once in ``ASK_AGAIN_S``. Raises RetriableError."""
        asked = self._asked_at
        async with self._asking:
            if self._asked_at != asked:  # somebody else asked while this call waited
                return
            await asyncio.sleep(max(0.0, asked + ASK_AGAIN_S - time.monotonic()))
            self.codec.refresh(await read_schema_ids(self._connection))
            self._asked_at = time.monotonic()
            self._refresh()

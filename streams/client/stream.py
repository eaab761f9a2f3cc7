"""Many calls of a client as one asynchronous iterator, without a task per call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TYPE_CHECKING, Any

from schemas.request import InferenceRequest
from streams.client.answer import Answer
from streams.client.calls import Call
from streams.client.request import Request, Requests
from streams.errors import IsosError

if TYPE_CHECKING:
    from streams.client.client import Client


class _Feeder:
    """Begins a call per request, at most ``window`` ahead of the reader, and hands the calls on in reading order."""

    def __init__(self, client: Client, requests: Requests, ordered: bool, wait_s: float | None) -> None:
        self.ready: asyncio.Queue[Call | IsosError | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(client.max_in_flight)
        self.calls: set[Call] = set()
        self.num_begun = 0
        self._client = client
        self._requests = requests
        self._ordered = ordered
        self._wait_s = wait_s

    async def run(self) -> None:
        """Begin all calls; ``None`` in the queue wakes the reader up at the end."""
        try:
            if isinstance(self._requests, AsyncIterable):
                async for request in self._requests:
                    await self._begin(request)
            else:
                for request in self._requests:
                    await self._begin(request)
        finally:
            self.ready.put_nowait(None)

    async def _begin(self, request: Request | InferenceRequest) -> None:
        await self.room.acquire()
        self.num_begun += 1
        try:
            call = await self._client.begin(request, wait_s=self._wait_s)
        except IsosError as error:
            self.ready.put_nowait(error)
            return
        self.calls.add(call)
        if self._ordered:
            self.ready.put_nowait(call)
        else:
            call.future.add_done_callback(lambda _: self.ready.put_nowait(call))


async def stream(
    client: Client, requests: Requests, *, ordered: bool, wait_s: float | None, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    """What ``Client.stream`` promises."""
    feeder = _Feeder(client, requests, ordered, wait_s)
    feeding = asyncio.create_task(feeder.run(), name="isos-stream")
    num_read = 0
    try:
        while not feeding.done() or num_read < feeder.num_begun:
            item = await feeder.ready.get()
            if item is None:
                await feeding  # raises what the iterable raised
                continue
            num_read += 1
            try:
                answer: Answer | IsosError = item if isinstance(item, IsosError) else await client.finish(item)
            except IsosError as error:
                answer = error
            if isinstance(item, Call):
                feeder.calls.discard(item)
            if isinstance(answer, IsosError) and not return_exceptions:
                raise answer
            yield answer
            feeder.room.release()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        for call in feeder.calls:
            client.drop(call)

"""A client whose log is a list: every request is acknowledged at once and answered by a function, or held back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from schemas.request import InferenceRequest, Tensor
from schemas.result import InferenceResult, ResultError
from streams.client.calls import Call
from streams.client.client import Client
from streams.client.codec import ClientCodec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from tests.support.client_records import CODEC, result, result_record

Reply = Callable[[str, InferenceRequest | None, tuple[int, int]], InferenceResult | None]


def echo(name: str, request: InferenceRequest | None, place: tuple[int, int]) -> InferenceResult | None:
    """OK with the inputs as outputs; the model ``refuse`` is refused, ``silent`` never answered."""
    if request is None:
        return result(name, "ERROR", ResultError("garbage", "unreadable"), place=place)
    if request.model == "silent":
        return None
    if request.model == "refuse":
        return result(name, "REJECTED", ResultError("quota_exceeded", "wait", 20), place=place)
    outputs = tuple(Tensor(each.name, each.datatype, each.shape, each.data) for each in request.inputs)
    return result(name, outputs=outputs, place=place)


class LoopbackClient(Client):
    """Open from the start in tests of one loop; ``async with`` works too. ``sent`` holds (partition, key, value)."""

    def __init__(self, reply: Reply = echo, *, held: bool = False, num_partitions: int = 4, **options: Any) -> None:
        super().__init__("nowhere", **options)
        self._reply = reply
        self.sent: list[tuple[int, bytes | None, bytes | None]] = []
        self.held = held
        self.answers: list[Any] = []
        self.num_partitions = num_partitions
        self.reading: list[int] = []
        self.most_open = 0
        self._sender = self._results = self  # type: ignore[assignment]
        self._partitions._results = self  # type: ignore[assignment]
        self.is_alive = True
        self.shut = False

    async def __aenter__(self) -> Self:
        self._codec = ClientCodec(Connection("nowhere"), CODEC)
        await self._partitions.start()
        return self

    # What stands for sending

    async def _num_partitions(self) -> int:
        return self.num_partitions

    async def room(self) -> None:
        """There is always room."""

    def put(self, call: Call, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Acknowledge at once; answer now, or with ``release``."""
        lane = self._calls.lane(partition)
        offset = lane.last_offset + 1
        self.sent.append((partition, key, value))
        self.most_open = max(self.most_open, len(self._calls))
        self._calls.sending(lane, 1)
        self._calls.placed(lane, [call], offset)
        try:
            request = CODEC.decode("inference.requests", value)
        except PoisonRecordError:
            request = None
        name = request.request_id if request is not None else f"{partition}-{offset}"
        answer = self._reply(name, request, (partition, offset))
        if answer is not None:
            self.answers.append(result_record(answer))
            if not self.held:
                asyncio.get_running_loop().call_soon(self.release)

    def release(self) -> None:
        """Let the answers arrive, oldest first."""
        for record in self.answers:
            self._calls.take(record, 5)
        self.answers.clear()

    # What stands for reading

    def reads(self, partition: int) -> bool:
        """Whether it was asked for."""
        return partition in self.reading

    async def read(self, partition: int) -> None:
        """Note what was asked for."""
        self.reading.append(partition)

    async def stop(self) -> None:
        """Note it."""
        self.shut = True

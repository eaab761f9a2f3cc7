"""The clients of the simulated broker that write: a producer, and the fenced writer.

What they send goes onto links (``tests.sim.world``) and is answered in other steps, or fails with an unknown fate.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaTimeoutError

from streams.errors import FencedError
from streams.fenced import WriteFailedError
from streams.ready_batch import ReadyBatch
from tests.sim.broker_clients import Client, Metadata, place_of
from tests.sim.world import TOPIC_ID, Outcome, Sending
from tests.support.results import records_of

if TYPE_CHECKING:
    from tests.sim.processes import Process

MAX_CHUNK = 4


async def sim_topic_ids(connection: Any, topics: Sequence[str], *_: Any) -> dict[str, bytes]:
    """Ids of topics, as ``streams.provision.topic_ids``."""
    await Client(connection).call("asking for ids")
    return dict.fromkeys(topics, TOPIC_ID)


class SimProducer(Client):
    """An ``AIOKafkaProducer`` without transactions. ``idempotent``: what follows a lost batch is lost too, always."""

    def __init__(self, connection: Any, **settings: Any) -> None:
        super().__init__(connection)
        self.idempotent = self.numbers_batches = bool(settings.get("enable_idempotence"))

    async def send(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int | None = None,
        headers: Any = None, **_: Any,
    ) -> asyncio.Future[Any]:  # fmt: skip
        world = self.world
        if self.alive and world.rng.random() < world.profile.refusal:
            world.count("refused calls")
            raise KafkaTimeoutError("simulated: no room")
        name, _unused = place_of(topic, 0)
        if partition is None:
            partition = zlib.crc32(key or b"") % world.log.partitions(name)
        future = self.process.loop.create_future()
        if self.alive:
            done = partial(_answered, future, topic, partition)
            world.send(self, (name, partition), Sending([(key, value, tuple(headers or ()))], done))
        return future

    async def send_and_wait(self, topic: str, value: bytes | None = None, **more: Any) -> Any:
        return await (await self.send(topic, value, **more))

    async def flush(self) -> None:
        await asyncio.sleep(0)


def _answered(future: asyncio.Future[Any], topic: str, partition: int, outcome: Outcome) -> None:
    if future.done():
        return
    if outcome.error:
        future.set_exception(KafkaTimeoutError(f"simulated: the send is {outcome.error}"))
    else:
        future.set_result(Metadata(topic, partition, outcome.first))


class SimWriter(Client):
    """A ``FencedWriter``: its claims put a marker into the log, its records land in chunks."""

    idempotent = True

    def __init__(self, process: Process, topic: str, partition: int, epoch: int | None, claim: int) -> None:
        super().__init__(process)
        self.topic = topic
        self.partition = partition
        self.place = place_of(topic, partition)
        self.epoch = epoch
        self.number = claim
        self.claimed_s = process.loop.time()

    @classmethod
    async def claim(cls, connection: Any, topic: str, partition: int, *, fence: bool = True) -> SimWriter:
        """Shut every earlier writer out."""
        client = Client(connection)
        try:
            await client.call("claiming")
            if not client.alive:
                raise KafkaTimeoutError("simulated: the process is gone")
            place = place_of(topic, partition)
            epoch, number = connection.world.claim(*place, fence=fence)
            connection.world.tell(f"{connection.name} claims {place[0]}-{place[1]} as number {number}")
            await client.call("hearing of the claim")
        except KafkaTimeoutError as error:
            raise WriteFailedError(topic, partition, str(error)) from error
        return cls(connection, topic, partition, epoch, number)

    @property
    def age_s(self) -> float:
        """Seconds since the claim."""
        return self.process.loop.time() - self.claimed_s

    @property
    def producer_id(self) -> tuple[int, int]:
        """Number and epoch of the claim."""
        return self.number, self.epoch or 0

    async def send(self, key: bytes | None, value: bytes | None, headers: Any = ()) -> int:
        """Write one record."""
        first, _ = await self.confirm(await self.submit([(key, value, headers)]))
        return first

    async def submit(self, records: Sequence[Any]) -> list[asyncio.Future[Any]]:
        """Hand records over; each chunk lands by itself."""
        left = list(records)
        futures: list[asyncio.Future[Any]] = []
        while left:
            size = self.world.rng.randint(1, MAX_CHUNK)
            chunk, left = left[:size], left[size:]
            future = self.process.loop.create_future()
            if self.alive:
                done = partial(self._landed, future)
                self.world.send(self, self.place, Sending(chunk, done, self.epoch, self.number))
            futures.append(future)
        return futures

    async def submit_batches(self, batches: Sequence[ReadyBatch]) -> list[asyncio.Future[Any]]:
        """Hand encoded records over; each chunk lands by itself."""
        return await self.submit(records_of(batches))

    async def confirm(self, submission: list[asyncio.Future[Any]]) -> tuple[int, int]:
        """Wait for them."""
        done = [await asyncio.shield(future) for future in submission]
        return done[0].first, done[-1].end

    def _landed(self, future: asyncio.Future[Any], outcome: Outcome) -> None:
        if future.done():
            return
        if outcome.fenced:
            future.set_exception(FencedError(self.topic, self.partition))
        elif outcome.error:
            future.set_exception(WriteFailedError(self.topic, self.partition, outcome.error))
        else:
            future.set_result(outcome)

"""Tenant limits on a real Redis: once per coordinate, shared between edges, and alone when Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from streams.edge import quota as quota_module
from streams.edge.quota import LocalQuota, QuotaStore
from tests.support.broker import free_ports, unique
from tests.support.charges import Charge, judged, judged_here
from tests.support.frames import T
from tests.support.lying_redis import LIES, keys_of, plant

BURST = 5
RATE = 10.0
INTERVAL_US = 100_000


@contextlib.asynccontextmanager
async def store(url: str, topic_id: bytes) -> AsyncIterator[QuotaStore]:
    made = QuotaStore(url, topic_id, RATE, BURST)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def topic_id() -> bytes:
    return uuid.uuid4().bytes


def charges(tenant: str, offsets: range, *, pause_us: int = 0, partition: int = 0, at_us: int = T) -> list[Charge]:
    return [Charge(partition, offset, tenant, at_us + n * pause_us) for n, offset in enumerate(offsets)]


async def test_a_coordinate_is_charged_once_and_gets_the_same_answer_again(redis_url: str, topic_id: bytes) -> None:
    tenant = unique("tenant")
    async with store(redis_url, topic_id) as edge, store(redis_url, topic_id) as other:
        wanted = charges(tenant, range(20))
        answers = await judged(edge, wanted)
        assert [answer == -1 for answer in answers] == [True] * (BURST + 1) + [False] * 14
        for again in (edge, other):  # a redelivery, to the same edge or another one: nothing is charged twice
            assert [answer == -1 for answer in await judged(again, wanted)] == [answer == -1 for answer in answers]
        assert await judged(edge, charges(tenant, range(20, 21), at_us=T + INTERVAL_US)) == [
            -1
        ]  # nothing charged twice
        assert edge.degraded is other.degraded is False


async def test_two_edges_share_a_tenants_limit(redis_url: str, topic_id: bytes) -> None:
    tenant = unique("tenant")
    async with store(redis_url, topic_id) as edge, store(redis_url, topic_id) as other:
        first = await judged(edge, charges(tenant, range(4), partition=0))
        second = await judged(other, charges(tenant, range(4), partition=1))
        assert (first.count(-1), second.count(-1)) == (4, BURST + 1 - 4)
        assert (await judged(other, charges(unique("tenant"), range(4, 5), partition=1))) == [-1]


async def test_redis_and_the_process_judge_alike(redis_url: str, topic_id: bytes) -> None:
    """One tenant, in order, 25/s for 4 s in calls of a tick, also across second boundaries."""
    tenant, local = unique("tenant"), LocalQuota(INTERVAL_US, BURST)
    async with store(redis_url, topic_id) as edge:
        everything = charges(tenant, range(400), pause_us=10_000)
        shared = [answer for at in range(0, 400, 7) for answer in await judged(edge, everything[at : at + 7])]
    assert shared == judged_here(local, everything)
    assert shared.count(-1) == pytest.approx(4 * RATE + BURST + 1, abs=1)


async def test_exact_gcra_in_order(redis_url: str, topic_id: bytes) -> None:
    tenant, tat, expected = unique("tenant"), 0.0, []
    everything = charges(tenant, range(300), pause_us=33_333)
    for charge in everything:
        early = tat - BURST * INTERVAL_US - charge.time_us
        expected.append(math.ceil(early) if early > 0 else -1)
        tat = tat if early > 0 else max(tat, charge.time_us) + INTERVAL_US
    async with store(redis_url, topic_id) as edge:
        answers = [answer for at in range(0, 300, 11) for answer in await judged(edge, everything[at : at + 11])]
    assert answers == expected


async def test_marks_of_another_topic_are_not_ours(redis_url: str) -> None:
    tenant = unique("tenant")
    async with store(redis_url, uuid.uuid4().bytes) as edge, store(redis_url, uuid.uuid4().bytes) as other:
        assert (await judged(edge, charges(tenant, range(3)))).count(-1) == 3
        assert (await judged(other, charges(tenant, range(10)))).count(-1) == BURST + 1 - 3


class Line:
    """A TCP line to Redis that the test can cut and mend; the address stays the same."""

    def __init__(self, redis_url: str) -> None:
        target = urlsplit(redis_url)
        self._target = (target.hostname or "127.0.0.1", target.port or 6379)
        (self._port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self._port}{target.path}"
        self._server: asyncio.Server | None = None
        self._ends: list[asyncio.StreamWriter] = []
        self._copies: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for end in self._ends:
            end.close()
        await asyncio.gather(*self._copies, return_exceptions=True)
        self._ends, self._server = [], None

    async def _serve(self, near: asyncio.StreamReader, near_end: asyncio.StreamWriter) -> None:
        far, far_end = await asyncio.open_connection(*self._target)
        self._ends += [near_end, far_end]
        for source, target in ((near, far_end), (far, near_end)):
            task = asyncio.ensure_future(_copy(source, target))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
    target.close()


async def test_redis_away_and_back(redis_url: str, topic_id: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away: the rule goes on in the process and says so. Back: the limit is shared again."""
    monkeypatch.setattr(quota_module, "RETRY_AFTER_S", 0.0)
    tenant, line = unique("tenant"), Line(redis_url)
    await line.mend()
    async with store(line.url, topic_id) as edge, store(redis_url, topic_id) as other:
        assert (await judged(edge, charges(tenant, range(3)))).count(-1) == 3
        await line.cut()
        assert (await judged(edge, charges(tenant, range(3, 30)))).count(-1) == BURST + 1
        assert edge.degraded is True
        assert (await judged(other, charges(tenant, range(10), partition=1))).count(-1) == BURST + 1 - 3
        await line.mend()
        assert (await judged(edge, charges(tenant, range(30, 40)))).count(-1) == 0
        assert edge.degraded is False
    await line.cut()


async def test_what_is_kept_expires(redis_url: str, topic_id: bytes) -> None:
    tenant = unique("tenant")
    async with store(redis_url, topic_id) as edge:
        await judged(edge, charges(tenant, range(10)))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        keys = [
            key
            async for key in client.scan_iter("isos:quota:*")
            if tenant.encode() in key or topic_id.hex().encode() in key
        ]
        assert len(keys) == 3
        assert all([0 < await client.ttl(key) <= quota_module.EXPIRY_S for key in keys])


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_under_its_keys_is_taken_for_nothing(redis_url: str, topic_id: bytes, lie: str) -> None:
    """It neither refuses anybody nor keeps the limit from being shared from then on."""
    tenant, rng = unique("tenant"), random.Random(lie)
    async with store(redis_url, topic_id) as edge, store(redis_url, topic_id) as other:
        assert (await judged(edge, charges(tenant, range(3)))).count(-1) == 3
        mine = tenant.encode(), topic_id.hex().encode()
        keys = [
            key for key in keys_of(redis_url) if key.startswith(b"isos:quota") and any(name in key for name in mine)
        ]
        assert len(keys) >= 2
        plant(redis_url, keys, lie, rng)
        assert await judged(edge, charges(tenant, range(100, 102))) == [-1, -1]
        assert edge.degraded is False
        assert (await judged(other, charges(tenant, range(10), partition=1))).count(-1) <= BURST + 1 - 2
        assert other.degraded is False

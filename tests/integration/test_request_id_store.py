"""Request ids on a real Redis: one holder among all edges, marks that betray what is missing, and memory."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from infra.redis_server import MAX_MEMORY, redis_process
from infra.settings import load_settings
from streams.edge import request_ids
from streams.edge.request_ids import KEY_BYTES, Claim, RequestIds, Span
from streams.errors import RetriableError
from tests.integration.test_quota import Line
from tests.support.broker import free_ports
from tests.support.lying_redis import LIES, keys_of, plant

T = 1_700_000_000_000_000
S = 1_000_000


@pytest.fixture
def topic_id() -> bytes:
    return uuid.uuid4().bytes


@contextlib.asynccontextmanager
async def index(url: str, topic_id: bytes, window_s: int = 300, **settings: int) -> AsyncIterator[RequestIds]:
    made = RequestIds(url, topic_id, window_s, **settings)
    try:
        yield made
    finally:
        await made.close()


def claim(offset: int, *, partition: int = 0, at_us: int = T) -> Claim:
    return Claim(partition, offset, at_us, b"d" * 16)


def keyed(ids: RequestIds, name: str, wanted: Claim) -> tuple[bytes, bytes]:
    return ids.key("default", name.encode()), wanted.pack()


async def test_two_edges_have_one_holder(redis_url: str, topic_id: bytes) -> None:
    async with index(redis_url, topic_id) as edge, index(redis_url, topic_id) as other:
        assert await edge.claim([keyed(edge, "a", claim(5)), keyed(edge, "b", claim(6))], {}) == {}
        met = await other.claim([keyed(other, name, claim(9, partition=1)) for name in "abc"], {})
        assert met == {0: claim(5), 1: claim(6)}
        assert await other.claim([keyed(other, "a", claim(5))], {}) == {}  # redelivered to another edge


async def test_a_row_that_met_its_own_tick_is_told_the_true_holder(redis_url: str, topic_id: bytes) -> None:
    async with index(redis_url, topic_id) as edge, index(redis_url, topic_id) as other:
        await edge.claim([keyed(edge, "a", claim(5))], {})
        met = await other.claim([keyed(other, "a", claim(n, partition=1)) for n in range(3)], {})
        assert met == dict.fromkeys(range(3), claim(5))


async def test_the_holder_read_again_behind_its_repetition_goes_on(redis_url: str, topic_id: bytes) -> None:
    """After a crash both are read again, in one tick and in any order: one of the two has to be processed."""
    async with index(redis_url, topic_id) as killed:
        await killed.claim([keyed(killed, "a", claim(5))], {})
    async with index(redis_url, topic_id) as edge:
        rows = [claim(9, partition=1), claim(5), claim(6)]
        assert await edge.claim([keyed(edge, "a", row) for row in rows], {}) == {0: claim(5), 2: claim(5)}


async def test_many_edges_race_for_freed_ids(redis_url: str, topic_id: bytes) -> None:
    """Each id ends with one holder, whatever the order of claims and take-overs."""
    rng = random.Random(5)
    async with contextlib.AsyncExitStack() as stack:
        edges = [await stack.enter_async_context(index(redis_url, topic_id)) for _ in range(4)]
        for round_number in range(20):
            name = f"id-{round_number}"
            await edges[0].claim([keyed(edges[0], name, claim(0))], {})
            takers = rng.sample(range(4), 4)
            holders = await asyncio.gather(
                *(edges[n].take_over(edges[n].key("default", name.encode()), claim(0), claim(n + 1)) for n in takers)
            )
            assert len({holder.place for holder in holders}) == 1


async def test_the_window_is_over_in_broker_time_and_in_ours(redis_url: str, topic_id: bytes) -> None:
    async with index(redis_url, topic_id, 1) as edge, index(redis_url, topic_id, 1) as other:
        await edge.claim([keyed(edge, "a", claim(5))], {})
        assert await other.claim([keyed(other, "a", claim(6, at_us=T + S + 1))], {}) == {}
        newest = claim(6, at_us=T + S + 1)
        assert await edge.claim([keyed(edge, "a", claim(7, at_us=T + S + 2))], {}) == {0: newest}
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            assert 0 < await client.pttl(b"isos:id:" + edge.key("default", b"a")) <= 1000


async def test_marks_betray_what_was_not_claimed(redis_url: str, topic_id: bytes) -> None:
    async with index(redis_url, topic_id) as edge, index(redis_url, topic_id) as other:
        await edge.claim([], {0: Span(0, 10)})  # nothing can be missing before the first offset
        await edge.claim([], {0: Span(10, 20), 1: Span(3, 5)})
        assert edge.incomplete == {1}
        assert edge.doubt.is_set()
        await other.claim([], {0: Span(15, 25)})  # takes over at the committed offset
        assert other.incomplete == set()
        await edge.claim([], {0: Span(26, 30)})
        assert edge.incomplete == {0, 1}
        await edge.restored(0)
        await other.claim([], {0: Span(30, 31)})
        assert (edge.incomplete, other.incomplete) == ({1}, set())
        edge.forget([1])
        assert edge.incomplete == set()


async def test_an_emptied_redis_is_noticed_and_filled_from_memory(redis_url: str, topic_id: bytes) -> None:
    async with index(redis_url, topic_id) as edge, index(redis_url, topic_id) as other:
        wanted = [keyed(edge, f"id-{n}", claim(n)) for n in range(3_000)]
        await edge.claim(wanted, {0: Span(0, 3_000)})
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await _forget(client, topic_id, [key for key, _ in wanted])
        again = [keyed(edge, "id-7", claim(3_000))]
        assert await edge.claim(again, {0: Span(3_000, 3_001)}) == {0: claim(7)}
        assert edge.incomplete == {0}
        await edge.put(list(edge.local_claims(0)))
        await edge.restored(0)
        assert await other.claim([keyed(other, "id-2999", claim(5_000, partition=1))], {}) == {0: claim(2_999)}


async def _forget(client: redis.asyncio.Redis, topic_id: bytes, keys: list[bytes]) -> None:
    """Empty Redis of this topic's ids only: the tests share one server."""
    await client.delete(*[b"isos:id:" + key for key in keys])
    await client.delete(*[name async for name in client.scan_iter(f"isos:id-mark:{topic_id.hex()}:*")])


async def test_redis_away_and_back(redis_url: str, topic_id: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away: own claims count and it is said. Back: the hole in the marks is seen, whoever looks first."""
    monkeypatch.setattr(request_ids, "RETRY_AFTER_S", 0.0)
    line = Line(redis_url)
    await line.mend()
    async with index(line.url, topic_id) as edge, index(redis_url, topic_id) as other:
        await edge.claim([keyed(edge, "a", claim(0))], {0: Span(0, 1)})
        await line.cut()
        assert await edge.claim([keyed(edge, "a", claim(1)), keyed(edge, "b", claim(2))], {0: Span(1, 3)}) == {
            0: claim(0)
        }
        assert edge.degraded
        with pytest.raises(RetriableError):
            await edge.put([keyed(edge, "x", claim(9))])
        await other.claim([], {0: Span(3, 4)})  # the partition moved while Redis did not know offsets 1 and 2
        assert other.incomplete == {0}
        await line.mend()
        await edge.claim([], {0: Span(3, 4)})
        assert (edge.degraded, edge.incomplete) == (False, {0})
        assert edge.num_outages == 2
    await line.cut()


@contextlib.contextmanager
def small_redis(folder: Path, memory: str) -> Iterator[str]:
    """A Redis as the stack starts it, with little memory; gives its address."""
    (port,) = free_ports(1)
    process = redis_process(load_settings(data_dir=folder, redis_port=port))
    argv = [memory if word == MAX_MEMORY else word for word in process.argv]
    (folder / "run").mkdir(exist_ok=True)
    with subprocess.Popen(argv, env=dict(process.env), stdout=subprocess.DEVNULL) as server:
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


async def answers(client: redis.asyncio.Redis) -> None:
    """Wait until it does."""
    while True:
        with contextlib.suppress(redis.exceptions.ConnectionError):
            await client.ping()
            return
        await asyncio.sleep(0.02)


async def test_a_redis_that_hears_and_does_not_answer(topic_id: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bounded wait, then the process's own claims; each later look is a short one."""
    monkeypatch.setattr(request_ids, "CALL_S", 0.3)
    monkeypatch.setattr(request_ids, "PROBE_S", 0.05)
    release = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    (port,) = free_ports(1)
    server = await asyncio.start_server(listen, "127.0.0.1", port)
    async with index(f"redis://127.0.0.1:{port}/0", topic_id) as edge:
        async with asyncio.timeout(10):
            assert await edge.claim([keyed(edge, "a", claim(0))], {0: Span(0, 1)}) == {}
            assert edge.degraded
            assert await edge.claim([keyed(edge, "a", claim(1))], {0: Span(1, 2)}) == {0: claim(0)}
            with pytest.raises(RetriableError):
                await edge.put([keyed(edge, "a", claim(0))])
    release.set()
    server.close()
    await server.wait_closed()


async def test_a_full_redis_forgets_the_oldest_and_goes_on(topic_id: bytes, tmp_path: Path) -> None:
    """The window shrinks; marks and answers stay. What an id costs is printed."""
    with small_redis(tmp_path, "8mb") as url:
        async with redis.asyncio.Redis.from_url(url) as client:
            await answers(client)
            async with index(url, topic_id, max_local=0) as edge:
                empty, count = (await client.info("memory"))["used_memory"], 80_000
                for at in range(0, count, 1_000):
                    wanted = [(n.to_bytes(KEY_BYTES, "big"), claim(n).pack()) for n in range(at, at + 1_000)]
                    assert await edge.claim(wanted, {0: Span(at, at + 1_000)}) == {}
                    if at == 9_000:
                        used = ((await client.info("memory"))["used_memory"] - empty) / 10_000
                        print(f"\n{used:.0f} bytes of Redis per id")
                        assert used < 250
                kept = await client.dbsize()
                assert 10_000 < kept < count
                newest = [(n.to_bytes(KEY_BYTES, "big"), claim(n + count).pack()) for n in range(count - 1_000, count)]
                met = await edge.claim(newest, {0: Span(count, count + 1)})
                assert len(met) > 900  # Redis chooses among samples, so a few of the newest may be gone
                assert (edge.degraded, edge.incomplete, edge.num_outages) == (False, set(), 0)


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_under_its_keys_is_taken_for_nothing(redis_url: str, topic_id: bytes, lie: str) -> None:
    """The id is claimed anew, what the mark no longer proves is restored, and then claims are shared as before."""
    rng = random.Random(lie)
    async with index(redis_url, topic_id) as edge, index(redis_url, topic_id) as other:
        mine = keyed(edge, "a", claim(5))
        await edge.claim([mine], {0: Span(5, 6)})
        await edge.restored(0)
        keys = [key for key in keys_of(redis_url) if topic_id.hex().encode() in key or key.endswith(mine[0])]
        assert len(keys) == 2
        plant(redis_url, keys, lie, rng)
        assert await other.claim([keyed(other, "a", claim(9, partition=1))], {1: Span(9, 10)}) == {}
        assert await edge.claim([keyed(edge, "b", claim(6))], {0: Span(6, 7)}) == {}
        assert edge.degraded is other.degraded is False
        assert await edge.claim([keyed(edge, "c", claim(7))], {0: Span(7, 8)}) == {}
        met = await other.claim([keyed(other, "c", claim(10, partition=1))], {1: Span(10, 11)})
        assert met == {0: claim(7)}

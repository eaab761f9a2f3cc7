"""Who holds an id, as far as one process knows it by itself; the shared half is tried on a real Redis."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.edge.request_ids import KEY_BYTES, NO_DIGEST, Claim, RequestIds, Span
from tests.support.broker import free_ports

T = 1_700_000_000_000_000
S = 1_000_000


@contextlib.asynccontextmanager
async def alone(window_s: int = 300, **settings: int) -> AsyncIterator[RequestIds]:
    """An index whose Redis is away."""
    (port,) = free_ports(1)
    ids = RequestIds(f"redis://127.0.0.1:{port}/0", b"t" * 16, window_s, **settings)
    try:
        yield ids
    finally:
        await ids.close()


def claim(offset: int, *, partition: int = 0, at_us: int = T, digest: bytes = b"d" * 16) -> Claim:
    return Claim(partition, offset, at_us, digest)


def key(n: int) -> bytes:
    return n.to_bytes(KEY_BYTES, "big")


async def claimed(ids: RequestIds, *wanted: tuple[int, Claim]) -> dict[int, Claim]:
    return await ids.claim([(key(number), each.pack()) for number, each in wanted], {})


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**53), st.binary(min_size=16, max_size=16))
def test_a_claim_is_read_as_it_was_written(partition: int, offset: int, received_us: int, digest: bytes) -> None:
    made = Claim(partition, offset, received_us, digest)
    assert len(made.pack()) == 36
    assert Claim.unpack(made.pack()) == made


async def test_keys_tell_topics_tenants_and_ids_apart() -> None:
    async with alone() as ids:
        other = RequestIds("redis://127.0.0.1:1/0", b"u" * 16, 300)
        keys = {ids.key("a", b"b"), ids.key("a", b"c"), ids.key("b", b"b"), ids.key("ab", b""), other.key("a", b"b")}
        assert len(keys) == 5
        assert ids.key("a", b"b") == ids.key("a", b"b")
        await other.close()


async def test_the_first_holds_the_id_and_a_redelivery_is_no_duplicate_of_itself() -> None:
    async with alone() as ids:
        assert await claimed(ids, (1, claim(5)), (2, claim(6))) == {}
        assert await claimed(ids, (1, claim(5)), (2, claim(6))) == {}
        assert await claimed(ids, (2, claim(7)), (3, claim(8)), (1, claim(5, partition=1))) == {
            0: claim(6),
            2: claim(5),
        }
        assert ids.degraded


async def test_twice_in_one_tick() -> None:
    async with alone() as ids:
        assert await claimed(ids, (1, claim(5)), (1, claim(6)), (1, claim(7))) == {1: claim(5), 2: claim(5)}


@pytest.mark.parametrize(("apart_us", "is_met"), [(0, True), (10 * S, True), (10 * S + 1, False), (-10 * S - 1, False)])
async def test_the_window_counts_in_broker_time(apart_us: int, is_met: bool) -> None:
    async with alone(10) as ids:
        await claimed(ids, (1, claim(5)))
        later = claim(6, at_us=T + apart_us)
        assert bool(await claimed(ids, (1, later))) == is_met
        assert await claimed(ids, (1, claim(7, at_us=T + apart_us))) == {0: claim(5) if is_met else later}


async def test_an_id_is_taken_over_once() -> None:
    async with alone() as ids:
        await claimed(ids, (1, claim(5)))
        assert await ids.take_over(key(1), claim(5), claim(6)) == claim(6)
        assert await ids.take_over(key(1), claim(5), claim(7)) == claim(6)
        assert await ids.take_over(key(1), claim(5), claim(6)) == claim(6)
        assert await claimed(ids, (1, claim(7))) == {0: claim(6)}


async def test_the_oldest_are_forgotten_first() -> None:
    async with alone(max_local=3) as ids:
        await claimed(ids, *[(n, claim(n)) for n in range(5)])
        assert [found for found, _ in ids.local_claims(0)] == [key(2), key(3), key(4)]
        assert await claimed(ids, (4, claim(90)), (0, claim(91))) == {0: claim(4)}


async def test_what_is_remembered_of_one_partition() -> None:
    async with alone() as ids:
        await claimed(ids, (1, claim(5)), (2, claim(6, partition=1, digest=NO_DIGEST)))
        assert list(ids.local_claims(1)) == [(key(2), claim(6, partition=1, digest=NO_DIGEST).pack())]


async def test_each_tick_without_redis_is_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    async with alone() as ids:
        for n in range(3):
            await ids.claim([], {0: Span(n, n + 1)})
        assert ids.num_outages == 3
        assert ids.incomplete == set()  # nobody can say so before Redis is back
    assert [each.message for each in caplog.records if "Redis does not answer" in each.message] != []
    assert len(caplog.records) == 1

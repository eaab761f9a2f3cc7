"""The shared level without a Redis: answers that come late, never, or from somebody else are misses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.telemetry import CacheWindow
from streams.cache import store as store_module
from streams.cache.lookup import Asked, Lookup
from streams.cache.store import CacheStore
from streams.cache.values import Seal
from tests.support import cache_scripts
from tests.support.cached import SCOPE, digests_of, entry, executed, filled
from tests.support.frames import T, frame, row

SEAL = Seal(b"a secret of a stack, 32 bytes ..")
HOUR_US = 3_600_000_000


class Scripts:
    """The scripts on dictionaries; ``before`` is awaited first and may fail."""

    def __init__(self, store: CacheStore, hashes: cache_scripts.Hashes) -> None:
        self.hashes = hashes
        self.num_look_ups = self.num_fills = 0
        self.before: Callable[[], Any] = lambda: asyncio.sleep(0)
        store._look_up, store._fill = self.look_up, self.fill

    async def look_up(self, *, args: list[Any]) -> bytes:
        self.num_look_ups += 1
        await self.before()
        return cache_scripts.look_up(self.hashes, args)

    async def fill(self, *, args: list[Any]) -> int:
        self.num_fills += 1
        await self.before()
        return cache_scripts.fill(self.hashes, args)


def new_store(hashes: cache_scripts.Hashes | None = None, **bounds: int) -> tuple[CacheStore, Scripts]:
    limits = {"max_bytes": 1 << 20, "local_bytes": 1 << 20, **bounds}
    made = CacheStore("redis://127.0.0.1:1/0", SEAL, **limits)
    return made, Scripts(made, {} if hashes is None else hashes)


def answers(*offsets: int) -> list[tuple[bytes, bytes]]:
    routed = frame([row(offset) for offset in offsets])
    return filled(executed(routed), digests_of(routed))


async def written(store: CacheStore) -> None:
    while store._filling is not None:
        await asyncio.sleep(0)


async def test_what_one_process_fills_another_finds_and_keeps() -> None:
    validator, scripts = new_store()
    router, seen = new_store(scripts.hashes)
    fields = [field for field, _ in answers(1, 2, 3)]
    validator.fill(answers(1, 2))
    await written(validator)
    ttls = [HOUR_US] * 3
    for _ in range(2):
        assert await router.look_up(fields, ttls, T + 1) == [entry(1.0), entry(2.0), None]
    assert (router.counts.num_shared, router.counts.num_local, router.counts.num_missed) == (2, 2, 2)
    await router.look_up(fields[:2], ttls[:2], T + 1)
    assert seen.num_look_ups == 2  # the local level knew all of the last one
    assert validator.counts.num_filled == 2


async def test_without_a_local_level_redis_still_answers() -> None:
    validator, scripts = new_store()
    router, _ = new_store(scripts.hashes, local_bytes=0)
    validator.fill(answers(1))
    await written(validator)
    ((field, _),) = answers(1)
    assert await router.look_up([field, field], [HOUR_US, 1], T + 1) == [entry(1.0), None]


async def test_an_answer_counts_for_its_time_to_live() -> None:
    store, _ = new_store()
    store.fill(answers(1))
    await written(store)
    ((field, _),) = answers(1)
    assert await store.look_up([field], [100], T + 99) == [entry(1.0)]
    assert await store.look_up([field], [100], T + 100) == [None]
    assert await store.look_up([field], [100], T + 100) == [None]


async def test_a_planted_value_is_a_miss_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    store, scripts = new_store()
    store.fill(answers(1))
    await written(store)
    ((field, _),) = answers(1)
    (hashed,) = scripts.hashes.values()
    hashed[field] = hashed[field][:-1] + b"\x7f"
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await store.look_up([field], [HOUR_US], T) == [None]
    assert store.counts.num_forged == 3
    assert len(caplog.records) == 1
    assert "did not write" in caplog.text


async def test_a_frozen_redis_costs_one_wait_and_is_asked_again_when_it_answers() -> None:
    store, scripts = new_store()
    store.fill(answers(1))
    await written(store)
    ((field, _),) = answers(1)
    thaw = asyncio.Event()
    scripts.before = thaw.wait
    for _ in range(5):
        assert await store.look_up([field], [HOUR_US], T) == [None]
    assert scripts.num_look_ups == 1
    assert store.counts.num_unanswered == 5
    thaw.set()
    while store._asking:
        await asyncio.sleep(0)
    assert await store.look_up([field], [HOUR_US], T) == [entry(1.0)]  # the late answer stands in the local level
    assert scripts.num_look_ups == 1


async def test_a_dead_redis_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, scripts = new_store()

    async def refuse() -> None:
        raise RedisConnectionError("nobody there")

    alive, scripts.before = scripts.before, refuse
    ((field, _),) = answers(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await store.look_up([field], [HOUR_US], T) == [None]
        store.fill(answers(1, 2))
        await written(store)
        assert (scripts.num_look_ups, scripts.num_fills) == (1, 0)
        assert (store.is_away, store.counts.num_dropped) == (True, 2)
        scripts.before = alive
        store._retry_at = 0.0
        store.fill(answers(1))
        await written(store)
        assert await store.look_up([field], [HOUR_US], T) == [entry(1.0)]
    assert store.is_away is False
    assert len(caplog.records) == 2


async def test_what_waits_to_be_written_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING_BYTES", 600)
    store, scripts = new_store()
    frozen = asyncio.Event()
    scripts.before = frozen.wait
    store.fill(answers(*range(10)))
    assert store._waiting_bytes <= 600
    assert 0 < store.counts.num_dropped < 10
    frozen.set()
    await written(store)
    assert store._waiting_bytes == 0
    assert store.counts.num_filled + store.counts.num_dropped == 10


async def test_one_write_takes_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_WRITTEN", 4)
    store, scripts = new_store()
    store.fill(answers(*range(10)))
    await written(store)
    assert (scripts.num_fills, store.counts.num_filled) == (3, 10)


@pytest.mark.parametrize("answer", [None, 7, b"", b"\xff\xff\xff\xff", b"\x05\0\0\0ab"])
async def test_an_answer_that_is_none_of_the_script_is_a_miss(answer: Any) -> None:
    store, _ = new_store()

    async def lie(*, args: list[Any]) -> Any:
        del args
        return answer

    store._look_up = lie
    assert await store.look_up([SCOPE + bytes(16)], [HOUR_US], T) == [None]


async def test_closing_ends_what_is_under_way() -> None:
    store, scripts = new_store()
    scripts.before = asyncio.Event().wait
    await store.look_up([SCOPE + bytes(16)], [HOUR_US], T)
    store.fill(answers(1))
    await store.close()
    assert store._asking == set()
    assert store._filling is None


async def test_a_frame_is_answered_in_parts_and_counted_by_version() -> None:
    store, _ = new_store()
    assert store.window("router", 2) is None
    store.fill(filled(executed(frame([row(1), row(2)])), digests_of(frame([row(1), row(2)])), now_us()))
    await written(store)
    one, two, three = (field for field, _ in answers(1, 2, 3))
    first = Asked(0, "digits", "v1.0.0", (0, 1), (three, one), HOUR_US)
    second = Asked(1, "digits", "v2.0.0", (0,), (two,), HOUR_US)
    looked = Lookup((first, second), b"")
    found = await store.answer(looked)
    assert found.lookup is looked
    assert [[each is not None for each in part] for part in found.entries] == [[False, True], [True]]
    store.counts.num_forged += 4
    window = store.window("router", 2)
    assert window is not None
    assert (window.stage, window.instance, window.num_cache_forged, window.num_cache_unanswered) == ("router", 2, 4, 0)
    assert window.caches == (CacheWindow("digits", "v1.0.0", 1, 1), CacheWindow("digits", "v2.0.0", 1, 0))
    assert window.window_start_us + window.window_us <= now_us()
    assert store.window("router", 2) is None


def now_us() -> int:
    return time.time_ns() // 1000

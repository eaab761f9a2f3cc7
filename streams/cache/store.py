"""The shared level of the cache: Redis, asked once per frame, filled beside the path, and never trusted.

Two hashes hold the answers, the newer and the older half of ``max_bytes``: when the newer one is full it becomes the
older one, and what was the older one is gone. So the cache is bounded by itself, not by what Redis evicts. Their names
carry a fingerprint of the secret: a process with another secret does not even see them.

A look-up waits ``WAIT_S`` at most. One that is not answered by then goes on beside the path, and until it ends no frame
asks Redis: a frozen Redis costs one frame these milliseconds, and as soon as it answers it is asked again. Everything
that goes wrong here is a miss.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from schemas.telemetry import CacheWindow, Telemetry
from streams.cache.keys import FIELD_BYTES
from streams.cache.local import LocalLevel
from streams.cache.lookup import LookedUp, Lookup
from streams.cache.scripts import FILL, HELD, LOOK_UP
from streams.cache.values import TAG_BYTES, Entry, Seal
from streams.edge.redis_link import RedisLink

log = logging.getLogger(__name__)

WAIT_S: Final = 0.01
"""How long a frame waits for its look-up."""
CALL_S: Final = 2.0
"""How long a call may take beside the path."""
RETRY_AFTER_S: Final = 1.0
MAX_ASKED: Final = 2_000
"""Keys of one call; what a frame asks beyond is a miss."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""Values of one answer; what does not fit is a miss."""
MAX_WAITING_BYTES: Final = 8 << 20
"""Answers that wait to be written; what comes beyond is not cached."""
GATHER_S: Final = 0.025
"""How long answers wait to be written together: a call costs more than an answer."""
MAX_WRITTEN_BYTES: Final = 1 << 20
MAX_WRITTEN: Final = 256
"""Answers of one write: each is authenticated between two turns of the loop."""
VALUE_BYTES: Final = 150
"""What a value weighs in Redis beside its own bytes."""
KEY_TTL_S: Final = 86_400
_TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Held:
    """Answers in Redis and the bytes that they take there."""

    num_answers: int
    num_bytes: int


@dataclass(slots=True)
class CacheCounts:
    """What this process's cache did since the start. ``num_forged``: values that this secret did not write."""

    num_local: int = 0
    num_shared: int = 0
    num_missed: int = 0
    num_forged: int = 0
    num_unanswered: int = 0
    num_filled: int = 0
    num_dropped: int = 0


class CacheStore:
    """Both levels as one process sees them. ``max_bytes`` bounds Redis, ``local_bytes`` this process."""

    def __init__(self, url: str, seal: Seal, *, max_bytes: int, local_bytes: int) -> None:
        self._redis = RedisLink(url)
        self._held = self._redis.register_script(HELD)
        self._look_up = self._redis.register_script(LOOK_UP)
        self._fill = self._redis.register_script(FILL)
        self._seal = seal
        self._half_bytes = max(1, max_bytes // 2)
        self._names = [f"isos:cache:{seal.fingerprint}:{age}" for age in ("newer", "older")]
        self.local = LocalLevel(local_bytes)
        self.counts = CacheCounts()
        self._asking: set[asyncio.Task[Mapping[bytes, Entry]]] = set()
        self._overdue: set[asyncio.Task[Mapping[bytes, Entry]]] = set()
        self._filling: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._retry_at = 0.0
        self._window: dict[tuple[str, str], list[int]] = {}
        self._window_us = time.time_ns() // 1000
        self._told = (0, 0)
        self.is_away = False

    async def answer(self, lookup: Lookup) -> LookedUp:
        """What is known of all that a frame asks, counted by model version."""
        fields = [field for asked in lookup.asked for field in asked.fields]
        ttls_us = [asked.ttl_us for asked in lookup.asked for _ in asked.fields]
        found = await self.look_up(fields, ttls_us, time.time_ns() // 1000)
        entries, first = [], 0
        for asked in lookup.asked:
            part = tuple(found[first : first + len(asked.fields)])
            first += len(part)
            entries.append(part)
            count = self._window.setdefault((asked.model, asked.version), [0, 0])
            missed = part.count(None)
            count[0] += len(part) - missed
            count[1] += missed
        return LookedUp(lookup, tuple(entries))

    def window(self, stage: str, instance: int) -> Telemetry | None:
        """What was counted since the last window; None when nothing was looked up."""
        now_us, counts = time.time_ns() // 1000, self.counts
        if not self._window and counts.num_forged == self._told[0]:
            self._window_us = now_us
            return None
        caches = tuple(CacheWindow(*key, *count) for key, count in sorted(self._window.items()))
        forged, unanswered = counts.num_forged - self._told[0], counts.num_unanswered - self._told[1]
        began_us, self._window_us = self._window_us, now_us
        self._window, self._told = {}, (counts.num_forged, counts.num_unanswered)
        return Telemetry(stage, instance, began_us, now_us - began_us, 0, 0, (), caches, forged, unanswered)

    async def look_up(self, fields: Sequence[bytes], ttls_us: Sequence[int], now_us: int) -> list[Entry | None]:
        """The answer to each key (32 bytes) that is younger than its time to live, else None."""
        found = [self.local.get(field, now_us - ttl) for field, ttl in zip(fields, ttls_us, strict=True)]
        num_local = len(found) - found.count(None)
        if num_local < len(found):
            asked = dict.fromkeys([field for field, entry in zip(fields, found, strict=True) if entry is None])
            brought = await self._ask(list(asked)[:MAX_ASKED])
            for at, entry in enumerate(found if brought else ()):
                other = brought.get(fields[at]) if entry is None else None
                if other is not None and other.filled_us > now_us - ttls_us[at]:
                    found[at] = other
        missed = found.count(None)
        self.counts.num_local += num_local
        self.counts.num_missed += missed
        self.counts.num_shared += len(found) - num_local - missed
        return found

    async def _ask(self, fields: list[bytes]) -> Mapping[bytes, Entry]:
        """What Redis has of these keys; nothing when it did not answer in time, or still owes an answer."""
        if self._overdue or time.monotonic() < self._retry_at:
            self.counts.num_unanswered += 1
            return {}
        asking = asyncio.ensure_future(self._bring(fields))
        self._asking.add(asking)
        asking.add_done_callback(self._asked)
        await asyncio.wait((asking,), timeout=WAIT_S)
        for _ in range(_TURNS):  # a busy loop may see its own timer before the answer that came in time
            if asking.done():
                return asking.result()
            await asyncio.sleep(0)
        self.counts.num_unanswered += 1
        self._overdue.add(asking)
        return {}

    def _asked(self, done: asyncio.Task[Mapping[bytes, Entry]]) -> None:
        self._asking.discard(done)
        self._overdue.discard(done)

    async def _bring(self, fields: list[bytes]) -> Mapping[bytes, Entry]:
        """Bring what Redis has of these keys into the local level as well, for whoever asks later."""
        answer = await self._call(self._look_up, [*self._names, b"".join(fields), MAX_ANSWER_BYTES])
        brought: dict[bytes, Entry] = {}
        at = 0
        for field in fields if isinstance(answer, bytes) else ():
            length = int.from_bytes(answer[at : at + 4], "little")
            if length:
                self._open(field, answer[at + 4 : at + 4 + length], brought)
            at += 4 + length
        return brought

    def _open(self, field: bytes, value: bytes, brought: dict[bytes, Entry]) -> None:
        entry = self._seal.open(field, value)
        if entry is not None:
            brought[field] = entry
            self.local.put(field, entry)
            return
        self.counts.num_forged += 1
        if self.counts.num_forged == 1:
            log.warning("Redis holds a cached answer that this stack did not write; it counts as none")

    def fill(self, payloads: Iterable[tuple[bytes, bytes]]) -> None:
        """Have answers (key, payload) written beside the path; what does not fit the bound is left out."""
        for field, payload in payloads:
            size = FIELD_BYTES + 4 + TAG_BYTES + len(payload)
            if self._waiting_bytes + size > MAX_WAITING_BYTES:
                self.counts.num_dropped += 1
                continue
            if field not in self._waiting:
                self._waiting_bytes += size
                self._waiting[field] = payload
        if self._waiting and self._filling is None:
            self._filling = asyncio.ensure_future(self._write())
            self._filling.add_done_callback(self._written)

    def _written(self, done: asyncio.Task[None]) -> None:
        self._filling = None
        if not done.cancelled():
            done.result()

    async def _write(self) -> None:
        """Write what waits, and what comes while the first of it waits for more."""
        await asyncio.sleep(GATHER_S)
        while self._waiting:
            parts: list[bytes] = []
            size = number = 0
            for field, payload in self._waiting.items():
                value = self._seal.close(field, payload)
                parts += (field, len(value).to_bytes(4, "little"), value)
                size, number = size + FIELD_BYTES + 4 + len(value), number + 1
                if size >= MAX_WRITTEN_BYTES or number >= MAX_WRITTEN:
                    break
            for field in parts[::3]:
                del self._waiting[field]
            self._waiting_bytes -= size
            arguments = [*self._names, self._half_bytes, KEY_TTL_S, VALUE_BYTES, b"".join(parts)]
            is_away = time.monotonic() < self._retry_at or await self._call(self._fill, arguments) is None
            if is_away:
                self.counts.num_dropped += number
            else:
                self.counts.num_filled += number

    async def _call(self, script: Any, arguments: Sequence[Any]) -> Any:
        """The script's answer, or None when Redis gave none: then it is left alone for a while."""
        try:
            async with asyncio.timeout(CALL_S):
                answer = await script(args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            if not self.is_away:
                log.warning("Redis does not answer (%s); nothing is cached until it does", error)
            self.is_away = True
            return None
        if self.is_away:
            log.warning("Redis answers again; answers are cached again")
        self.is_away = False
        return answer

    async def held(self) -> Held | None:
        """What Redis holds now; None when it does not say."""
        found = await self._call(self._held, self._names)
        return None if found is None else Held(*found)

    async def close(self) -> None:
        """Write nothing more and close the connections."""
        tasks = [*self._asking, *([] if self._filling is None else [self._filling])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose()

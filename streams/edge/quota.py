"""Tenant request limits: GCRA at the record's LogAppendTime, each coordinate charged once, one Redis call per tick.

GCRA (ITU-T I.371): a tenant has a theoretical arrival time; a request at t conforms when t >= tat - burst x interval,
and then tat = max(tat, t) + interval. Because t is the broker's timestamp, a backlog that is read after a restart is
not refused as a burst. Partitions are read at different pace, so time does not run in one direction: the theoretical
arrival time is kept per second of LogAppendTime. A new second begins with what the newest one before it left; a late
request is judged by its own second. For requests in order this is exact GCRA; a late one cannot be charged to seconds
that were judged before it came, which admits at most one burst per second more. A coordinate at or below the
partition's charged offset was decided before (another edge, or a redelivery): it is not charged again, and refused
again exactly if it was refused then.

Without Redis the same rule runs in this process, over this process's partitions only; ``degraded`` says so.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisError

from streams.edge.redis_link import RedisLink

log = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 0.25
RETRY_AFTER_S: Final = 1.0
KEPT_REFUSALS: Final = 100_000
EXPIRY_S: Final = 3600

# KEYS: none (one key space of ours). ARGV: interval us, burst, expiry s, kept, number of partitions, then per
# partition: name, first and last offset, offsets (8 bytes each, big-endian), number of runs, and per run: tenant, time
# us, number of requests; the offsets stand in the order of the runs. Returns for each refused request its index over
# all and its wait in us.
#
# A value that this script cannot have written is taken for none: one of another type is deleted, a mark far ahead of
# the log or a theoretical arrival time above the burst does not count.
_SCRIPT: Final = """
local seconds = 900
local interval, burst, expiry, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local out, at, tats, newest_of, total, typed = {}, 6, {}, {}, 0, {}
local function number(text)
  local n = text and tonumber(text)
  if n and n - n == 0 then return n end
end
local function typed_as(key, kind)
  if not typed[key] then
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
    typed[key] = true
  end
end
local function time_of(key, field, t)
  local tat = number(redis.call('HGET', key, field))
  if tat and tat <= t + (burst + 1) * interval + 1000000 then return tat end
end
local function theoretical(tenant, t)
  local key, second = 'isos:quota:tat:' .. tenant, math.floor(t / 1000000)
  local cell = second .. ':' .. tenant
  if tats[cell] then return tats[cell][3], second, cell end
  typed_as(key, 'hash')
  local found = time_of(key, second, t)
  if found then return found, second, cell end
  local last = newest_of[tenant] or number(redis.call('HGET', key, 'newest')) or -1
  if last > second + 1000000000 then last = -1 end
  if second < last then return 0, second, cell end
  local before = tats[last .. ':' .. tenant]
  local carried = before and before[3] or time_of(key, last, t) or 0
  newest_of[tenant], tats[cell] = second, {tenant, second, carried}
  return carried, second, cell
end
for p = 1, tonumber(ARGV[5]) do
  local name, first, newest, offsets = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]
  local runs = tonumber(ARGV[at + 4])
  at = at + 5
  local mark_key, refused_key = 'isos:quota:mark:' .. name, 'isos:quota:refused:' .. name
  typed_as(mark_key, 'string')
  typed_as(refused_key, 'zset')
  local mark = number(redis.call('GET', mark_key)) or -1
  if mark > newest + 10000000 then mark = -1 end
  local row = 0
  local function offset_of(i)
    local a, b = struct.unpack('>I4I4', offsets, i * 8 + 1)
    return string.format('%.0f', a * 4294967296 + b)
  end
  for i = 1, runs do
    local tenant, t, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    at = at + 3
    local admitted, tat, second, cell = false
    for j = row, row + count - 1 do
      local offset = first <= mark and offset_of(j)
      if offset and tonumber(offset) <= mark then
        if redis.call('ZSCORE', refused_key, offset) then
          out[#out + 1] = total + j
          out[#out + 1] = 1000
        end
      else
        if not tat then tat, second, cell = theoretical(tenant, t) end
        local early = tat - burst * interval - t
        if early > 0 then
          offset = offset or offset_of(j)
          out[#out + 1] = total + j
          out[#out + 1] = math.ceil(early)
          redis.call('ZADD', refused_key, offset, offset)
        else
          tat = math.max(tat, t) + interval
          admitted = true
        end
      end
    end
    if admitted then tats[cell] = {tenant, second, tat} end
    row = row + count
  end
  total = total + row
  if newest > mark then redis.call('SET', mark_key, string.format('%.0f', newest), 'EX', expiry) else newest = mark end
  redis.call('ZREMRANGEBYSCORE', refused_key, '-inf', newest - kept)
  redis.call('EXPIRE', refused_key, expiry)
end
for cell, entry in pairs(tats) do
  local key = 'isos:quota:tat:' .. entry[1]
  redis.call('HSET', key, entry[2], string.format('%.3f', entry[3]))
  redis.call('HDEL', key, entry[2] - seconds)
  redis.call('EXPIRE', key, expiry)
end
for tenant, second in pairs(newest_of) do
  local key = 'isos:quota:tat:' .. tenant
  if redis.call('HLEN', key) > 2 * seconds then redis.call('DEL', key) end
  redis.call('HSET', key, 'newest', second)
end
return out
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Requests of one tenant and one LogAppendTime in us, which are charged together; ``count`` of them."""

    tenant: str
    time_us: int
    count: int


@dataclass(frozen=True, slots=True)
class Charges:
    """What a partition's requests of a tick are charged: their offsets (int64, at least one) in the order of ``runs``.

    ``order`` gives for each the index among the requests as they were handed to ``charges_of``.
    """

    partition: int
    offsets: NDArray[np.int64]
    order: NDArray[np.int64]
    runs: tuple[Run, ...]


def charges_of(
    partition: int, offsets: NDArray[np.int64], times_us: NDArray[np.int64], tenants: NDArray[np.int64],
    names: Sequence[str],
) -> Charges:  # fmt: skip
    """Charges of a partition's requests, at least one; ``tenants``: index into ``names`` of each."""
    order = np.argsort(tenants, kind="stable")
    offsets, times_us, tenants = offsets[order], times_us[order], tenants[order]
    starts = np.flatnonzero((np.diff(times_us) != 0) | (np.diff(tenants) != 0)) + 1
    bounds = [0, *starts.tolist(), len(offsets)]
    return Charges(
        partition, offsets, order,
        tuple([
            Run(names[tenants[a]], int(times_us[a]), b - a) for a, b in pairwise(bounds)
        ]),
    )  # fmt: skip


@dataclass(slots=True)
class LocalQuota:
    """The rule without Redis: pure apart from its own dictionaries. In us; ``seconds`` are kept per tenant."""

    interval_us: float
    burst: int
    seconds: int = 900
    tats: dict[str, dict[int, float]] = field(default_factory=dict)

    def charge(self, charges: Charges) -> dict[int, int]:
        """Index over the charged offsets, and microseconds until it would conform, of each refused request."""
        refused: dict[int, int] = {}
        at = 0
        for run in charges.runs:
            for index in range(at, at + run.count):
                wait = self.one(run.tenant, run.time_us)
                if wait >= 0:
                    refused.update(dict.fromkeys(range(index, at + run.count), wait))
                    break  # nothing changes for the others, who came at the same time
            at += run.count
        return refused

    def one(self, tenant: str, time_us: int) -> int:
        """Charge one request: -1 when it is admitted, else the microseconds until it would conform."""
        cells = self.tats.setdefault(tenant, {})
        second = time_us // 1_000_000
        tat = cells.get(second)
        if tat is None:
            newest = max(cells, default=-1)
            tat = cells[newest] if 0 <= newest < second else 0.0
            cells.pop(second - self.seconds, None)
        early = tat - self.burst * self.interval_us - time_us
        if early > 0:
            return max(1, math.ceil(early))
        cells[second] = max(tat, time_us) + self.interval_us
        return -1


class QuotaStore:
    """Charges the requests of a tick. ``topic_id`` keeps the marks of different requests topics apart."""

    def __init__(self, url: str, topic_id: bytes, rate_per_s: float, burst: int) -> None:
        self._redis = RedisLink(url)
        self._script = self._redis.register_script(_SCRIPT)
        self._prefix = topic_id.hex()
        self._interval_us = 1e6 / rate_per_s
        self._burst = burst
        self._local = LocalQuota(self._interval_us, burst)
        self._retry_at = 0.0
        self.degraded = False

    async def charge(self, asked: Sequence[Charges]) -> list[dict[int, int]]:
        """Per partition the refused requests: index as given to ``charges_of``, and us until it would conform.

        One Redis call for all.
        """
        if not asked:
            return []
        waits: list[dict[int, int]] | None = None
        if time.monotonic() >= self._retry_at:
            waits = await self._shared(asked)
        if waits is None:
            waits = [self._local.charge(each) for each in asked]
        return [
            {int(each.order[index]): wait for index, wait in refused.items()}
            for each, refused in zip(asked, waits, strict=True)
        ]

    async def _shared(self, asked: Sequence[Charges]) -> list[dict[int, int]] | None:
        """What Redis says; None when it does not."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                flat = await self._script(args=self._arguments(asked))
        except (RedisError, OSError, TimeoutError) as error:
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            if not self.degraded:
                log.warning("Redis does not answer (%s); quotas are kept in this process only until it does", error)
            self.degraded = True
            return None
        if self.degraded:
            log.warning("Redis answers again; quotas are shared again")
        self.degraded = False
        refused: list[dict[int, int]] = []
        start = 0
        for each in asked:
            end = start + len(each.offsets)
            pairs = zip(flat[::2], flat[1::2], strict=True)
            refused.append({int(at) - start: int(wait) for at, wait in pairs if start <= at < end})
            start = end
        return refused

    def _arguments(self, asked: Sequence[Charges]) -> list[Any]:
        arguments: list[Any] = [self._interval_us, self._burst, EXPIRY_S, KEPT_REFUSALS, len(asked)]
        for each in asked:
            arguments += (
                f"{self._prefix}:{each.partition}", int(each.offsets.min()), int(each.offsets.max()),
                each.offsets.astype(">i8").tobytes(), len(each.runs),
            )  # fmt: skip
            for run in each.runs:
                arguments += (run.tenant, run.time_us, run.count)
        return arguments

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

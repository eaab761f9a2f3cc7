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
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 0.25
RETRY_AFTER_S: Final = 1.0
KEPT_REFUSALS: Final = 100_000
EXPIRY_S: Final = 3600

# KEYS: none (one key space of ours). ARGV: interval us, burst, expiry s, kept, number of partitions, then per
# partition: name, count, and per request: offset, tenant, time us. Returns one number per request: -1 admitted, else
# the wait in us.
_SCRIPT: Final = """
local seconds = 900
local interval, burst, expiry, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local out, at, tats, newest_of = {}, 6, {}, {}
local function theoretical(tenant, t)
  local key, second = 'isos:quota:tat:' .. tenant, math.floor(t / 1000000)
  local cell = second .. ':' .. tenant
  if tats[cell] then return tats[cell][3], second, cell end
  local found = redis.call('HGET', key, second)
  if found then return tonumber(found), second, cell end
  local last = newest_of[tenant] or tonumber(redis.call('HGET', key, 'newest') or '-1')
  if second < last then return 0, second, cell end
  local before = tats[last .. ':' .. tenant]
  local carried = before and before[3] or tonumber(redis.call('HGET', key, last) or '0')
  newest_of[tenant], tats[cell] = second, {tenant, second, carried}
  return carried, second, cell
end
for p = 1, tonumber(ARGV[5]) do
  local name, count = ARGV[at], tonumber(ARGV[at + 1]); at = at + 2
  local mark_key, refused_key = 'isos:quota:mark:' .. name, 'isos:quota:refused:' .. name
  local mark = tonumber(redis.call('GET', mark_key) or '-1')
  local newest = mark
  for i = 1, count do
    local offset, tenant, t = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2]); at = at + 3
    if offset <= mark then
      local wait = redis.call('ZSCORE', refused_key, ARGV[at - 3])
      out[#out + 1] = wait and 1000 or -1
    else
      local tat, second, cell = theoretical(tenant, t)
      local early = tat - burst * interval - t
      if early > 0 then
        out[#out + 1] = math.ceil(early)
        redis.call('ZADD', refused_key, offset, ARGV[at - 3])
      else
        tats[cell] = {tenant, second, math.max(tat, t) + interval}
        out[#out + 1] = -1
      end
      if offset > newest then newest = offset end
    end
  end
  if newest > mark then redis.call('SET', mark_key, string.format('%.0f', newest), 'EX', expiry) end
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
class Charge:
    """One request to charge: source partition, offset, tenant, LogAppendTime in us."""

    partition: int
    offset: int
    tenant: str
    time_us: int


@dataclass(slots=True)
class LocalQuota:
    """The rule without Redis: pure apart from its own dictionaries. In us; ``seconds`` are kept per tenant."""

    interval_us: float
    burst: int
    seconds: int = 900
    tats: dict[str, dict[int, float]] = field(default_factory=dict)

    def charge(self, charges: Sequence[Charge]) -> list[int]:
        """-1 per admitted request, else the microseconds until it would conform."""
        return [self._one(charge) for charge in charges]

    def _one(self, charge: Charge) -> int:
        cells = self.tats.setdefault(charge.tenant, {})
        second = charge.time_us // 1_000_000
        tat = cells.get(second)
        if tat is None:
            newest = max(cells, default=-1)
            tat = cells[newest] if 0 <= newest < second else 0.0
            cells.pop(second - self.seconds, None)
        early = tat - self.burst * self.interval_us - charge.time_us
        if early > 0:
            return max(1, math.ceil(early))
        cells[second] = max(tat, charge.time_us) + self.interval_us
        return -1


class QuotaStore:
    """Charges the requests of a tick. ``topic_id`` keeps the marks of different requests topics apart."""

    def __init__(self, url: str, topic_id: bytes, rate_per_s: float, burst: int) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=CALL_TIMEOUT_S, socket_connect_timeout=CALL_TIMEOUT_S, retry=None
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._prefix = topic_id.hex()
        self._interval_us = 1e6 / rate_per_s
        self._burst = burst
        self._local = LocalQuota(self._interval_us, burst)
        self._retry_at = 0.0
        self.degraded = False

    async def charge(self, charges: Sequence[Charge]) -> list[int]:
        """-1 per admitted request, else the microseconds until it would conform; one Redis call for all."""
        if not charges:
            return []
        if time.monotonic() >= self._retry_at:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    waits = await self._script(args=self._arguments(charges))
            except (RedisError, OSError, TimeoutError) as error:
                self._retry_at = time.monotonic() + RETRY_AFTER_S
                if not self.degraded:
                    log.warning("Redis does not answer (%s); quotas are kept in this process only until it does", error)
                self.degraded = True
            else:
                if self.degraded:
                    log.warning("Redis answers again; quotas are shared again")
                self.degraded = False
                by_partition = _by_partition(charges)
                order = [index for indexes in by_partition.values() for index in indexes]
                answer = [-1] * len(charges)
                for index, wait in zip(order, waits, strict=True):
                    answer[index] = int(wait)
                return answer
        return self._local.charge(charges)

    def _arguments(self, charges: Sequence[Charge]) -> list[Any]:
        groups = _by_partition(charges)
        arguments: list[Any] = [self._interval_us, self._burst, EXPIRY_S, KEPT_REFUSALS, len(groups)]
        for partition, indexes in groups.items():
            arguments += [f"{self._prefix}:{partition}", len(indexes)]
            for index in indexes:
                arguments += [charges[index].offset, charges[index].tenant, charges[index].time_us]
        return arguments

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


def _by_partition(charges: Sequence[Charge]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for index, charge in enumerate(charges):
        groups.setdefault(charge.partition, []).append(index)
    return groups

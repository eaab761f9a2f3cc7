"""Which request holds an id: per tenant and request id the coordinate that came first, for a window of broker time.

Redis holds, under a 16-byte hash of (requests topic id, tenant, request id), a claim of 36 bytes: partition, offset,
broker timestamp and input digest. One script call per tick claims all rows: who finds nothing is the holder, who finds
its own coordinate is a redelivery, who finds another is told of it. Whether that one is finished is not kept here: it
stands in ``inference.results`` (``streams.edge.earlier``).

What makes it trustworthy after Redis was emptied or away: per partition a mark says up to which offset everything was
claimed. A tick that begins above the mark, or finds none, proves that claims are missing; ``incomplete`` then names the
partition until ``restored`` (``id_restore``). This process remembers its newest claims itself, and looks there
first: they answer while Redis is away (``degraded``: best effort, other processes' claims are not known) and go back
into it afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, Final

from redis.exceptions import RedisError

from streams.edge.redis_link import RedisLink
from streams.errors import RetriableError

log = logging.getLogger(__name__)

CALL_S: Final = 2.0
"""How long an answering Redis may take: an edge that goes on without it processes repeated ids again."""
PROBE_S: Final = 0.25
"""How long one that did not answer may take when it is tried again."""
RETRY_AFTER_S: Final = 1.0
CLAIM: Final = Struct(">iqq16s")
PLACE_BYTES: Final = 12
KEY_BYTES: Final = 16
NO_DIGEST: Final = bytes(16)
MAX_LOCAL: Final = 100_000
CHUNK: Final = 1_000
"""Claims in one call of a restoration, so that other ticks' calls get between."""

# ARGV: window ms, claims (52 bytes each: key, claim), number of partitions, then per partition: mark, begin, end.
# Returns the index and the holder's claim of each row that another coordinate holds; then the partitions' indexes whose
# mark does not reach up to their begin, and which are therefore not moved. A value that no edge can have written is
# taken for none, and a mark far ahead of the log too.
_CLAIM: Final = """
local window, claims, met, lost = ARGV[1], ARGV[2], {}, {}
for i = 0, #claims / 52 - 1 do
  local at = i * 52
  local key = 'isos:id:' .. string.sub(claims, at + 1, at + 16)
  local claim = string.sub(claims, at + 17, at + 52)
  if not redis.call('SET', key, claim, 'NX', 'PX', window) then
    local held = redis.pcall('GET', key)
    if type(held) ~= 'string' or #held ~= 36 then
      redis.call('SET', key, claim, 'PX', window)
    elseif string.sub(held, 1, 12) ~= string.sub(claim, 1, 12) then
      met[#met + 1] = i
      met[#met + 1] = held
    end
  end
end
for p = 0, tonumber(ARGV[3]) - 1 do
  local mark, first, last = ARGV[4 + 3 * p], tonumber(ARGV[5 + 3 * p]), tonumber(ARGV[6 + 3 * p])
  local seen = redis.pcall('GET', mark)
  seen = type(seen) == 'string' and tonumber(seen)
  if not seen or seen - seen ~= 0 or seen > last + 10000000 then seen = 0 end
  if seen < first then
    lost[#lost + 1] = p
  elseif seen < last then
    redis.call('SET', mark, ARGV[6 + 3 * p])
  end
end
return {met, lost}
"""

# ARGV: window ms, key, the claim that is expected, the new one. Returns the holder's claim afterwards.
_TAKE_OVER: Final = """
local key = 'isos:id:' .. ARGV[2]
local held = redis.pcall('GET', key)
if type(held) ~= 'string' or #held ~= 36 or held == ARGV[3]
  or string.sub(held, 1, 12) == string.sub(ARGV[4], 1, 12) then
  redis.call('SET', key, ARGV[4], 'PX', ARGV[1])
  return ARGV[4]
end
return held
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that holds an id. ``digest``: 16 bytes of ``request_row.input_digest``, ``NO_DIGEST`` = not known."""

    partition: int
    offset: int
    received_us: int
    digest: bytes

    def pack(self) -> bytes:
        """The 36 bytes that Redis holds."""
        return CLAIM.pack(self.partition, self.offset, self.received_us, self.digest)

    @classmethod
    def unpack(cls, data: bytes) -> Claim:
        """Read ``pack``."""
        return cls(*CLAIM.unpack(data))

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return self.partition, self.offset


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets [first, end) of a partition whose requests one call claims; refused ones in between count as claimed."""

    first: int
    end: int


class RequestIds:
    """The index of one process. ``window_s`` counts in broker time between two requests.

    ``num_outages`` grows with each call that Redis did not answer and each tick that did not ask it.
    """

    def __init__(self, url: str, topic_id: bytes, window_s: int, *, max_local: int = MAX_LOCAL) -> None:
        self._redis = RedisLink(url)
        self._claim = self._redis.register_script(_CLAIM)
        self._take_over = self._redis.register_script(_TAKE_OVER)
        self._topic_id = topic_id
        self._prefix = f"isos:id-mark:{topic_id.hex()}:"
        self.window_us = window_s * 1_000_000
        self._local: OrderedDict[bytes, bytes] = OrderedDict()  # a dict's first key is found in ever longer steps
        self._max_local = max_local
        self._retry_at = 0.0
        self._ends: dict[int, int] = {}
        self._missed: set[int] = set()
        self.degraded = False
        self.num_outages = 0
        self.incomplete: set[int] = set()
        self.doubt = asyncio.Event()

    def key(self, tenant: str, request_id: bytes) -> bytes:
        """The 16 bytes under which an id is held."""
        return blake2b(b"%b%b\0%b" % (self._topic_id, tenant.encode(), request_id), digest_size=KEY_BYTES).digest()

    async def claim(self, claims: Sequence[tuple[bytes, bytes]], spans: Mapping[int, Span]) -> dict[int, Claim]:
        """Claim (key, packed claim) of a tick's rows: index and holder of each that another coordinate holds."""
        met = self._claim_local(claims)
        await self._claim_shared(claims, met, spans)
        # A row may have met one of its own tick that met another in Redis: it counts who holds the id now. Read again
        # after a crash, that can be the row itself, and nobody else would go on then.
        holders = {index: self._local.get(claims[index][0], held) for index, held in met.items()}
        return {
            index: Claim.unpack(held)
            for index, held in holders.items()
            if held[:PLACE_BYTES] != claims[index][1][:PLACE_BYTES]
        }

    def _claim_local(self, claims: Iterable[tuple[bytes, bytes]]) -> dict[int, bytes]:
        local, met = self._local, {}
        for index, (key, claim) in enumerate(claims):
            held = local.get(key)
            if held is None:
                local[key] = claim
            elif held[:PLACE_BYTES] != claim[:PLACE_BYTES]:
                if self._is_over(held, claim):
                    local[key] = claim
                else:
                    met[index] = held
        while len(local) > self._max_local:
            local.popitem(last=False)
        return met

    def _is_over(self, held: bytes, claim: bytes) -> bool:
        return abs(Claim.unpack(claim).received_us - Claim.unpack(held).received_us) > self.window_us

    async def _claim_shared(
        self, claims: Sequence[tuple[bytes, bytes]], met: dict[int, bytes], spans: Mapping[int, Span]
    ) -> None:
        """Add to ``met`` what Redis knows; without it only this process's own claims count."""
        if time.monotonic() < self._retry_at:
            self.num_outages += 1
            self._missed.update(spans)
            return
        asked = [index for index in range(len(claims)) if index not in met]
        if not asked and not spans:
            return
        arguments: list[Any] = [
            self.window_us // 1000,
            b"".join([part for index in asked for part in claims[index]]),
            len(spans),
        ]
        for partition, span in spans.items():
            arguments += (f"{self._prefix}{partition}", span.first, span.end)
            self._ends[partition] = max(span.end, self._ends.get(partition, 0))
        known = frozenset(self.incomplete)
        try:
            held, lost = await self._call(self._claim, arguments)
        except RetriableError:
            self._missed.update(spans)
            return
        numbers = list(spans)
        # One that was being restored when the call began may stand by now: its mark is not what the call saw.
        self._found_incomplete(({numbers[at] for at in lost} - known) | self._missed)
        self._missed.clear()
        for at, claim in zip(held[::2], held[1::2], strict=True):
            await self._meet(claims, asked[at], claim, met)

    async def _meet(
        self, claims: Sequence[tuple[bytes, bytes]], index: int, held: bytes, met: dict[int, bytes]
    ) -> None:
        key, claim = claims[index]
        if self._is_over(held, claim):
            try:
                held = await self._call(self._take_over, [self.window_us // 1000, key, held, claim])
            except RetriableError:
                return
        if held[:PLACE_BYTES] != claim[:PLACE_BYTES]:
            met[index] = self._local[key] = held

    async def take_over(self, key: bytes, expected: Claim, claim: Claim) -> Claim:
        """Put ``claim`` in the place of one that ended without an answer; gives the holder afterwards."""
        old, new = expected.pack(), claim.pack()
        held = self._local.get(key)
        if held is not None and held not in (old, new):
            return Claim.unpack(held)
        self._local[key] = holder = new
        if time.monotonic() >= self._retry_at:
            try:
                holder = await self._call(self._take_over, [self.window_us // 1000, key, old, new])
            except RetriableError:
                return claim
            self._local[key] = holder
        return Claim.unpack(holder)

    def local_claims(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """What this process remembers of a partition, oldest first."""
        number = partition.to_bytes(4, "big", signed=True)
        return iter([(key, claim) for key, claim in self._local.items() if claim[:4] == number])

    async def put(self, claims: Sequence[tuple[bytes, bytes]]) -> None:
        """Put claims back where nobody holds the id. Raises RetriableError when Redis does not answer."""
        for at in range(0, len(claims), CHUNK):
            content = b"".join([part for pair in claims[at : at + CHUNK] for part in pair])
            await self._call(self._claim, [self.window_us // 1000, content, 0])

    async def restored(self, partition: int) -> None:
        """All claims of the partition's window stand again, as far as they can. Raises RetriableError."""
        await self._call(self._set_mark, [f"{self._prefix}{partition}", self._ends.get(partition, 0)])
        self.incomplete.discard(partition)

    async def _set_mark(self, *, args: Sequence[Any]) -> None:
        await self._redis.set(*args)

    def forget(self, partitions: Iterable[int]) -> None:
        """A rebalance: nothing is known of these partitions' completeness until their first tick."""
        for partition in partitions:
            self.incomplete.discard(partition)
            self._missed.discard(partition)
            self._ends.pop(partition, None)

    def _found_incomplete(self, partitions: set[int]) -> None:
        if partitions - self.incomplete:
            log.warning(
                "request ids of partitions %s are not all in Redis; they are restored from results, meanwhile a "
                "repeated id may be taken for a new one",
                sorted(partitions),
            )
            self.incomplete |= partitions
            self.doubt.set()

    async def _call(self, what: Any, arguments: Sequence[Any]) -> Any:
        try:
            async with asyncio.timeout(PROBE_S if self.degraded else CALL_S):
                answer = await what(args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            self.num_outages += 1
            if not self.degraded:
                log.warning(
                    "Redis does not answer (%s); until it does, a repeated request id is noticed only where this "
                    "process saw it before",
                    error,
                )
            self.degraded = True
            raise RetriableError(f"Redis does not answer: {error}") from error
        if self.degraded:
            log.warning("Redis answers again; request ids are shared again")
        self.degraded = False
        return answer

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

"""Where the rows of a model go by what memory says of it: lane and version, and the rows that may go nowhere. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.breaker import NOWHERE, choose_version, retry_after_ms
from agents.retry import failed_version, pinned_version
from schemas.frame import InferenceFrame, Segment
from schemas.plan import Plan
from schemas.serving import Breaker
from streams.arrange import Cut
from streams.columns import request_ids, routing_keys
from streams.lane_class import POOL, lane_for, lane_of_frame, lanes_in_use, pool_of
from streams.memory_view import MemoryView, breakers, derived, plan, replicas

Texts = list[tuple[bytes, bytes]]
"""Routing key and request id of each row of a frame; empty until somebody needs them."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the rows of a model go. ``version`` is that of all of them, or empty where weights decide.

    ``breakers``: those of its versions that are not closed; where there are any, the version of each row is chosen.
    """

    lane: int
    version: str
    effective: Plan
    breakers: Mapping[str, Breaker]


def routes_of(frame: InferenceFrame, memory: MemoryView, num_lanes: int, num_slow: int) -> list[Route | None]:
    """Per segment; what memory says of a model is looked up once. Of several lanes a frame goes to one, in turn."""
    known: dict[str, tuple[Route, ...]] = derived(memory, ("routes", num_lanes, num_slow), dict)
    routes: list[Route | None] = []
    for segment in frame.segments:
        ways = known.get(segment.model)
        if ways is None:
            effective = plan(memory, segment.model)
            if effective is None:
                routes.append(None)
                continue
            ways = known[segment.model] = _ways(effective, memory, num_lanes, num_slow)
        routes.append(ways[0] if len(ways) == 1 else ways[lane_of_frame(ways, frame.frame_id)])
    return routes


def _ways(effective: Plan, memory: MemoryView, num_lanes: int, num_slow: int) -> tuple[Route, ...]:
    """A model's route over each of its lanes."""
    version = effective.versions[0].version if len(effective.versions) == 1 else ""
    lanes: tuple[int, ...] = (home_lane(effective, num_lanes, num_slow),)
    ready = num_ready(memory, pool_of(effective.lane, num_lanes, num_slow))
    if ready is not None:
        lanes = lanes_in_use(effective.model, effective.lane, num_lanes, num_slow, ready)
    not_closed = breakers(memory, effective.model)
    return tuple([Route(lane, version, effective, not_closed) for lane in lanes])


def num_ready(memory: MemoryView, pool: str = POOL) -> int | None:
    """How many executors of a pool are ready, by memory; None where it says nothing, and all lanes are in use."""
    noted = replicas(memory, pool)
    return None if noted is None else noted.replicas


def home_lane(effective: Plan, num_lanes: int, num_slow: int = 0) -> int:
    """The lane of a model: the plan's, else a hash of its name among its class's, so that its batches stay full."""
    return lane_for(effective.model, effective.lane, num_lanes, num_slow)


def version_for(effective: Plan, key: bytes) -> str:
    """The version of a sticky key: CRC-32 of model and key, modulo 100, against the summed weights."""
    point = zlib.crc32(key, zlib.crc32(effective.model.encode())) % 100
    for share in effective.versions:
        point -= share.weight_percent
        if point < 0:
            return share.version
    return effective.versions[-1].version


def cuts_of(frame: InferenceFrame, number: int, first: int, route: Route, texts: Texts) -> Sequence[tuple[Cut, str]]:
    """A segment, whose rows begin at ``first``, by the versions of its rows, each version's in the order they stood in.

    Rows that may go nowhere are in none.
    """
    segment = frame.segments[number]
    version = pinned_version(frame, segment) or route.version
    if version and not route.breakers and not frame.attempt:
        return ((Cut(number), version),)
    rows: dict[str, list[int]] = {}
    for row, (version, _) in enumerate(_versions(frame, segment, first, route, texts)):
        rows.setdefault(version, []).append(row)
    rows.pop(NOWHERE, None)
    if len(rows) == 1 and len(next(iter(rows.values()))) == segment.num_rows:
        return [(Cut(number), version) for version in rows]
    return [(Cut(number, tuple(mine)), version) for version, mine in rows.items()]


def _versions(frame: InferenceFrame, segment: Segment, first: int, route: Route, texts: Texts) -> list[tuple[str, str]]:
    """Per row of a segment the version that serves it, or ``NOWHERE``, and the one that it was planned for."""
    if not texts:
        texts += zip(routing_keys(frame), request_ids(frame), strict=True)
    pinned, failed = pinned_version(frame, segment), failed_version(frame, segment)
    chosen: list[tuple[str, str]] = []
    for key, request_id in texts[first : first + segment.num_rows]:
        planned = pinned or route.version or version_for(route.effective, key or request_id)
        if route.breakers or failed:
            version = choose_version(
                route.effective, route.breakers, planned, request_id, pinned=bool(pinned), failed=failed
            )
            chosen.append((version, planned))
        else:
            chosen.append((planned, planned))
    return chosen


def refused_rows(frame: InferenceFrame, routes: Sequence[Route], now_us: int) -> dict[int, tuple[str, int]]:
    """Rows that may go nowhere, by their number: the version they were planned for, when to come again (ms)."""
    refused: dict[int, tuple[str, int]] = {}
    texts: Texts = []
    first = 0
    for segment, route in zip(frame.segments, routes, strict=True):
        if route.breakers or frame.attempt:
            for row, (version, planned) in enumerate(_versions(frame, segment, first, route, texts), start=first):
                if version == NOWHERE:
                    refused[row] = (planned, retry_after_ms(route.breakers, planned, now_us))
        first += segment.num_rows
    return refused

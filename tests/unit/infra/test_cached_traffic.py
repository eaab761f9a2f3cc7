"""A Router's process counts cached answers once there may be some of a version with a reference, and not before."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

import pytest

from executors.cached_rows import CachedRows
from infra import cached_traffic
from infra.cached_traffic import CachedTraffic
from schemas.frame import InferenceFrame
from schemas.memory import MemoryEntry
from streams.cache.lookup import LookedUp
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.memory_view import MemoryView
from tests.support.cached import POLICY, entry
from tests.support.fake_kafka import FakeProducer, until
from tests.support.frames import frame, row
from tests.unit.executors.test_cached_rows import REFERENCE, looked_up

CODEC = Codec(SchemaIds.local())
CACHED = {"cache/digits": to_json(POLICY)}
REFERRED = {"reference/digits/v1.0.0": to_json(REFERENCE)}
OTHER = {"reference/other/v1.0.0": to_json(REFERENCE)}


def view_of(*parts: dict[str, str]) -> MemoryView:
    entries = {key: MemoryEntry(key, 1, 3, body, 1) for part in parts for key, body in part.items()}
    return MemoryView(3, entries=MappingProxyType(entries))


async def test_rows_are_told_of_once_both_a_reference_and_a_cache_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_traffic, "LOOK_S", 0.001)
    views = [view_of(), view_of(CACHED), view_of(REFERRED), view_of(CACHED, OTHER), view_of(CACHED, REFERRED)]
    producer, built = FakeProducer(), frame([row(5)])
    traffic = CachedTraffic("router-0", lambda: views[0] if len(views) == 1 else views.pop(0), 0.01)

    def fed() -> bool:
        traffic.note(built, looked_up(built, [entry()]))
        return bool(producer.sent)

    traffic.note(built, looked_up(built, [entry()]))
    running = asyncio.ensure_future(traffic.run(producer, CODEC))
    try:
        await until(fed)
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert len(views) == 1
    told = CODEC.decode("control.statistics", producer.sent[0].value)
    assert (told.executor, told.model, told.version) == ("router-0", "digits", "v1.0.0")
    assert 1 <= told.num_sampled <= told.num_rows


async def test_a_defect_of_the_counting_is_logged_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_rows: CachedRows, _frame: InferenceFrame, _found: LookedUp, _now_us: int) -> None:
        raise IndexError("no such row")

    monkeypatch.setattr(CachedRows, "note", broken)
    traffic, built = CachedTraffic("router-0", lambda: view_of(CACHED, REFERRED), 0.01), frame([row(5)])
    running = asyncio.ensure_future(traffic.run(FakeProducer(), CODEC))

    def fed() -> bool:
        traffic.note(built, looked_up(built, [entry()]))
        return bool(caplog.records)

    try:
        await until(fed)
        assert fed()
    finally:
        running.cancel()
        await asyncio.wait({running})
    (said,) = caplog.records
    assert (said.levelname, said.getMessage()) == ("ERROR", "the cached rows of frame 7 were not counted for drift")
    assert said.exc_info is not None

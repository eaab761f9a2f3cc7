"""Which blobs may go is decided from the oldest retained records; letters are read for names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas.request import BlobRef
from streams import blob_collection
from streams.blob_collection import NAMING, Horizon, RetentionUnknownError, Scan, collect, horizon_of
from streams.blob_store import LocalBlobStore
from streams.codec import Codec, SchemaIds
from streams.connection import Connection, UnreachableError
from streams.errors import RetriableError
from tests.support.frames import frame, row, with_blob
from tests.support.samples import SAMPLES

NOWHERE = Connection("127.0.0.1:1")
MARGIN_US = 1_000_000
HOUR_US = 3_600_000_000


def test_all_topics_that_can_name_a_blob_are_asked() -> None:
    assert {"inference.requests", "inference.admitted", "inference.routed"} <= set(NAMING)


def test_the_oldest_record_of_all_sets_the_horizon_and_an_empty_partition_sets_none() -> None:
    assert horizon_of(9_000, {"a-0": 5_000, "a-1": None, "b-0": 4_000}, 100) == Horizon(3_900, "b-0")
    assert horizon_of(9_000, {"a-0": None}, 100) == Horizon(8_900, "")
    assert horizon_of(9_000, {"a-0": 12_000}, 100) == Horizon(8_900, "a-0")  # a clock ahead of ours bounds nothing


@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(0, 1 << 40))
def test_a_digest_is_seen_in_every_record_that_names_it(before: bytes, after: bytes, size: int) -> None:
    codec = Codec(SchemaIds.local())
    digest = SAMPLES["InferenceRequest"].blob.digest
    others = {"0" * 64}
    scan = Scan(frozenset({digest, *others}))
    scan.add(None)
    scan.add(codec.encode("inference.requests", SAMPLES["InferenceRequest"]))
    assert scan.found == {digest}
    scan = Scan(frozenset({digest, *others}))
    scan.add(before + digest.encode() + after)
    assert digest in scan.found
    named = with_blob(row(1))
    assert named.blob
    scan = Scan(frozenset({named.blob.digest}))
    scan.add(codec.encode("inference.routed", frame([named])))
    assert scan.found == {named.blob.digest}


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path)


async def put_at(store: LocalBlobStore, data: bytes, touched_us: int) -> BlobRef:
    ref = await store.put(data)
    os.utime(store.path(ref.digest), ns=(touched_us * 1000,) * 2)
    return ref


@pytest.fixture
def retained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the broker retains: the oldest record, and the digests that letters name."""

    def say(oldest_us: int | None, letters: Iterable[str] = (), error: Exception | None = None) -> None:
        async def oldest(*_: Any) -> dict[str, int | None]:
            return {"requests-0": oldest_us}

        async def named(_: Connection, digests: Iterable[str]) -> frozenset[str]:
            if error is not None:
                raise error
            return frozenset(digests) & frozenset(letters)

        monkeypatch.setattr(blob_collection, "oldest_records", oldest)
        monkeypatch.setattr(blob_collection, "named_by_letters", named)

    return say


async def test_only_what_is_older_than_the_horizon_and_in_no_letter_goes(
    store: LocalBlobStore, retained: Callable[..., None]
) -> None:
    loose = await put_at(store, b"loose", HOUR_US)
    lettered = await put_at(store, b"lettered", HOUR_US)
    edge = await put_at(store, b"edge", 2 * HOUR_US - MARGIN_US)
    fresh = await store.put(b"fresh")
    leftover = store.path(loose.digest).parent / ".new-dead"
    leftover.write_bytes(b"half")
    os.utime(leftover, (1, 1))
    retained(2 * HOUR_US, [lettered.digest])

    tried = await collect(store, NOWHERE, MARGIN_US, dry_run=True)
    assert [blob.digest for blob in tried.removed] == [loose.digest]
    assert len(await store.blobs()) == 4
    assert leftover.exists()

    done = await collect(store, NOWHERE, MARGIN_US)
    assert done.horizon == Horizon(2 * HOUR_US - MARGIN_US, "requests-0")
    assert [blob.digest for blob in done.removed] == [loose.digest]
    assert [blob.digest for blob in done.kept_by_letters] == [lettered.digest]
    assert (done.num_younger, done.num_leftovers) == (2, 1)
    assert {blob.digest for blob in await store.blobs()} == {lettered.digest, edge.digest, fresh.digest}


async def test_a_touch_in_the_middle_of_a_collection_keeps_the_blob(
    store: LocalBlobStore, retained: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, loose = await put_at(store, b"wanted", HOUR_US), await put_at(store, b"loose", HOUR_US)
    retained(None)
    listed = store.blobs

    async def blobs_and_then_a_touch() -> Any:
        found = await listed()
        assert await store.touch(wanted.digest)
        return found

    monkeypatch.setattr(LocalBlobStore, "blobs", lambda _: blobs_and_then_a_touch())
    done = await collect(store, NOWHERE, MARGIN_US)
    assert [blob.digest for blob in done.removed] == [loose.digest]
    assert await store.get(wanted) == b"wanted"


async def test_any_doubt_collects_nothing(store: LocalBlobStore, retained: Callable[..., None]) -> None:
    await put_at(store, b"old", HOUR_US)
    with pytest.raises(RetriableError):
        await asyncio.wait_for(collect(store, NOWHERE, MARGIN_US), 30)  # nobody listens there
    retained(None, error=UnreachableError("reading the dead letters", "gone"))
    with pytest.raises(UnreachableError):
        await collect(store, NOWHERE, MARGIN_US)
    assert len(await store.blobs()) == 1


class FakeBroker:
    """Answers what a partition retains: start, end and the time of the first record."""

    def __init__(self, first: int, end: int, stamp_ms: int | None, markers: bool = False) -> None:
        self.first, self.end, self.stamp_ms, self.markers, self.at = first, end, stamp_ms, markers, 0

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.first)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)

    async def offsets_for_times(self, places: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        stamp = None if self.stamp_ms is None else SimpleNamespace(offset=self.first, timestamp=self.stamp_ms)
        return dict.fromkeys(places, stamp)

    def assign(self, places: list[TopicPartition]) -> None:
        self.at = self.first

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at = offset

    async def position(self, place: TopicPartition) -> int:
        return self.at

    async def getmany(self, *_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        self.at = self.end
        return {} if self.markers else {TopicPartition("t", 0): [object()]}


@pytest.mark.parametrize(
    ("first", "end", "stamp_ms", "expected"),
    [(3, 9, 5, 5_000), (9, 9, None, None), (0, 0, None, None), (3, 9, None, "names no time"), (3, 9, -1, "no time")],
)
async def test_a_partition_with_records_must_have_a_time(
    first: int, end: int, stamp_ms: int | None, expected: int | str | None
) -> None:
    asked = blob_collection._oldest(FakeBroker(first, end, stamp_ms), "t", [TopicPartition("t", 0)])
    if isinstance(expected, str):
        with pytest.raises(RetentionUnknownError, match=expected):
            await asked
    else:
        assert await asked == {"t-0": expected}


async def test_markers_alone_bound_nothing() -> None:
    asked = blob_collection._oldest(FakeBroker(3, 9, None, markers=True), "t", [TopicPartition("t", 0)])
    assert await asked == {"t-0": None}

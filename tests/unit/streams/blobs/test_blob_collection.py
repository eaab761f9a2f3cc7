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
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from schemas.request import BlobRef
from streams.blobs import blob_collection
from streams.blobs.blob_collection import NAMING, Horizon, RetentionUnknownError, Scan, collect, horizon_of
from streams.blobs.blob_store import LocalBlobStore
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


BLOBS = [f"{number:064x}" for number in range(3)]
LIFE_S, KEEP_S = 130, 600
"""Largest budget and its grace; how long before it sends a client may store."""


class Retention(RuleBasedStateMachine):
    """A store, four topics and the collection on one clock, in seconds; the real rules decide what goes.

    Records are (time, digest). A request lives for LIFE_S at most: later nobody writes a frame of it. Nobody trims a
    letter whose redriven request still waits for an edge.
    """

    margin_s = LIFE_S + KEEP_S
    reads_letters = True

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000
        self.touched: dict[str, int] = {}
        self.logs: dict[str, list[tuple[int, str]]] = {"requests": [], "admitted": [], "routed": [], "letters": []}
        self.unread: list[tuple[int, str]] = []
        self.unrouted: list[tuple[int, int, str]] = []
        self.stored: list[tuple[int, str]] = []

    @rule(seconds=st.sampled_from([1, 30, 200, 2_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(digest=st.sampled_from(BLOBS))
    def client_stores(self, digest: str) -> None:
        self.touched[digest] = self.now
        self.stored.append((self.now, digest))

    @precondition(lambda self: self.stored)
    @rule()
    def client_sends(self) -> None:
        at, digest = self.stored.pop()
        if self.now - at <= KEEP_S:
            self.request(digest)

    def request(self, digest: str) -> None:
        self.logs["requests"].append((self.now, digest))
        self.unread.append((self.now, digest))

    @precondition(lambda self: self.unread)
    @rule(lettered=st.booleans(), commits=st.booleans())
    def edge_reads(self, lettered: bool, commits: bool) -> None:
        """One that does not commit reads the same again; a letter names its blob without a touch."""
        at, digest = self.unread[0]
        if lettered:
            self.logs["letters"].append((self.now, digest))
        else:
            self.touched[digest] = self.now
            if self.now - at < LIFE_S:
                self.logs["admitted"].append((self.now, digest))
                self.unrouted.append((at, self.now, digest))
        if commits:
            del self.unread[0]

    @precondition(lambda self: self.unrouted)
    @rule()
    def router_routes(self) -> None:
        received, _, digest = self.unrouted.pop(0)
        if self.now - received < LIFE_S:
            self.logs["routed"].append((self.now, digest))

    @precondition(lambda self: self.logs["letters"])
    @rule()
    def operator_redrives(self) -> None:
        self.request(self.logs["letters"][-1][1])

    @rule(topic=st.sampled_from(["requests", "admitted", "routed", "letters"]), keep=st.integers(0, 2))
    def broker_forgets(self, topic: str, keep: int) -> None:
        """The start of a log moves, also past what nobody has read."""
        log = self.logs[topic]
        if topic == "letters" and self.unread:
            return
        del log[: max(0, len(log) - keep)]
        if topic == "requests":
            self.unread = [each for each in self.unread if each in log]

    @rule()
    def blobs_are_collected(self) -> None:
        oldest = {name: log[0][0] if log else None for name, log in self.logs.items() if name != "letters"}
        scan = Scan(frozenset(BLOBS))
        for _, digest in self.logs["letters"] if self.reads_letters else ():
            scan.add(digest.encode())
        cutoff = horizon_of(self.now, oldest, self.margin_s).cutoff_us
        self.touched = {digest: at for digest, at in self.touched.items() if at >= cutoff or digest in scan.found}

    @invariant()
    def what_a_retained_record_names_is_there(self) -> None:
        for name, log in self.logs.items():
            for _, digest in log:
                assert digest in self.touched, f"{name} names {digest}, which was collected"


TestRetention = Retention.TestCase
TestRetention.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class Careless(Retention):
    margin_s = 0


class BlindToLetters(Retention):
    reads_letters = False


@pytest.mark.parametrize("careless", [Careless, BlindToLetters])
def test_a_collection_that_is_careless_is_found_out(careless: type[Retention]) -> None:
    with pytest.raises(AssertionError, match="which was collected"):
        run_state_machine_as_test(
            careless,
            settings=settings(
                max_examples=2_000, stateful_step_count=40, deadline=None, database=None, phases=(Phase.generate,)
            ),
        )

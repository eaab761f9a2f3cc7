"""Claims are fetched in order, few at a time, within a budget, and always end in inputs or in a code."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from executors import blob_fetch
from executors.blob_fetch import BlobFetcher, Claim, Fetched, NotFetched, cut_inputs, fetch
from schemas.frame import TensorBlock
from schemas.request import BlobRef
from streams.blobs.blob_store import BlobCorruptError, LocalBlobStore, StoreUnreadableError
from streams.tensors import encode_texts
from tests.support.fake_kafka import until

LATER = time.time_ns() // 1000 + 600_000_000
X = TensorBlock("x", "FP32", (2,), b"")
N = TensorBlock("n", "INT64", (), b"")


class GatedStore(LocalBlobStore):
    """A local store that holds fetches back and counts them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.unreadable = 0
        self.defect: Exception | None = None

    async def get(self, ref: BlobRef) -> bytes:
        self.asked.append(ref.digest)
        await self.gate.wait()
        if self.defect is not None:
            raise self.defect
        if self.unreadable:
            self.unreadable -= 1
            raise StoreUnreadableError(self.directory, "Input/output error")
        return await super().get(ref)


@pytest.fixture
def store(tmp_path: Path) -> GatedStore:
    return GatedStore(tmp_path)


def claim(ref: BlobRef, number: int = 0, *, items: int = 1, due_us: int = LATER) -> Claim:
    return Claim(None, number, ref, (X,), items, due_us)


async def stored(store: GatedStore, count: int) -> list[Claim]:
    return [claim(await store.put(np.full(2, number, "<f4").tobytes()), number) for number in range(count)]


async def test_a_blob_is_cut_into_its_inputs(store: GatedStore) -> None:
    store.gate.set()
    x, n = np.arange(6, dtype="<f4"), np.arange(3, dtype="<i8")
    ref = await store.put(n.tobytes() + x.tobytes())
    got = await fetch(store, Claim(None, 0, ref, (N, X), 3, LATER))
    assert got == Fetched(
        (TensorBlock("n", "INT64", (), n.tobytes()), TensorBlock("x", "FP32", (2,), x.tobytes())), (), ref.size_bytes
    )


async def test_what_is_not_finite_is_named(store: GatedStore) -> None:
    store.gate.set()
    ref = await store.put(np.array([1, np.inf], "<f4").tobytes())
    got = await fetch(store, claim(ref))
    assert isinstance(got, Fetched)
    assert got.not_finite == ("x",)


async def test_missing_corrupt_and_of_another_size(store: GatedStore) -> None:
    store.gate.set()
    ref = await store.put(bytes(8))
    assert isinstance(await fetch(store, claim(ref)), Fetched)
    missing = await fetch(store, claim(BlobRef("0" * 64, 8)))
    assert missing == NotFetched("blob_missing", "no blob 000000000000 is stored")
    sizes = [await fetch(store, claim(BlobRef(ref.digest, 12))), await fetch(store, claim(ref, items=2))]
    store.path(ref.digest).write_bytes(b"changed!")
    changed = await fetch(store, claim(ref))
    assert [each.code for each in (*sizes, changed) if isinstance(each, NotFetched)] == ["blob_corrupt"] * 3
    with pytest.raises(BlobCorruptError, match="8 bytes where the inputs take 16"):
        cut_inputs(ref, (X,), 2, bytes(8))


async def test_texts_in_a_blob_end_where_their_lengths_say(store: GatedStore) -> None:
    store.gate.set()
    word, half = TensorBlock("word", "BYTES", (2,), b""), TensorBlock("half", "BF16", (), b"")
    texts = encode_texts(np.array(["a", "", "é", "bcd"], object))
    for halves, not_finite in ((b"\x80\x3f\x80\x3f", ()), (b"\x80\x3f\x80\x7f", ("half",))):
        ref = await store.put(texts + halves)
        got = await fetch(store, replace_inputs(claim(ref, items=2), (word, half)))
        assert isinstance(got, Fetched)
        assert [block.data for block in got.inputs] == [texts, halves]
        assert got.not_finite == not_finite
    for data, code in (
        (texts + b"1", "blob_corrupt"),
        (texts[:-1], "malformed_bytes"),
        (b"\x01\0\0\0\xff" + bytes(12) + bytes(4), "malformed_bytes"),
    ):
        got = await fetch(store, replace_inputs(claim(await store.put(data), items=2), (word, half)))
        assert (isinstance(got, NotFetched) and got.code) == code


def replace_inputs(made: Claim, inputs: tuple[TensorBlock, ...]) -> Claim:
    made.inputs = inputs
    return made


async def test_an_unreadable_store_is_asked_again_until_the_deadline(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_fetch, "RETRY_S", (0.001, 0.002))
    store.gate.set()
    (asked,) = await stored(store, 1)
    store.unreadable = 5
    assert isinstance(await fetch(store, asked), Fetched)
    assert len(store.asked) == 6
    store.unreadable = 1 << 30
    asked.due_us = time.time_ns() // 1000 + 20_000
    got = await fetch(store, asked)
    assert isinstance(got, NotFetched)
    assert got.code == "blob_missing"
    assert "cannot be read: Input/output error" in got.message


async def test_few_at_a_time_in_order_and_within_the_budget(store: GatedStore) -> None:
    fetcher = BlobFetcher(store, max_bytes=16)  # two of them
    claims = await stored(store, 5)
    for each in claims:
        fetcher.claim(each)
    assert (fetcher.num_items, fetcher.held_bytes) == (5, 16)
    store.gate.set()
    taken: list[int] = []
    while len(taken) < 5:
        await until(lambda: bool(fetcher._arrived))
        assert fetcher.held_bytes <= 16
        for each, outcome in fetcher.take():
            assert isinstance(outcome, Fetched)
            taken.append(each.segment)
            fetcher.release(outcome.num_bytes)
    assert sorted(taken) == [0, 1, 2, 3, 4]
    assert [claims[0].ref.digest, claims[1].ref.digest] == store.asked[:2]
    await until(lambda: not fetcher.is_busy)
    assert (fetcher.num_items, fetcher.held_bytes) == (0, 0)


async def test_one_above_the_budget_goes_alone_and_failures_give_their_bytes_back(store: GatedStore) -> None:
    fetcher = BlobFetcher(store, max_bytes=4)
    store.gate.set()
    (sound,) = await stored(store, 1)
    for each in (claim(BlobRef("0" * 64, 8)), claim(BlobRef("1" * 64, 8)), sound):
        fetcher.claim(each)
    got: list[object] = []
    while len(got) < 3:
        await until(lambda: bool(fetcher._arrived))
        got += [type(outcome) for _, outcome in fetcher.take()]
    assert got == [NotFetched, NotFetched, Fetched]
    assert fetcher.held_bytes == 8


async def test_a_stop_forgets_everything(store: GatedStore) -> None:
    fetcher = BlobFetcher(store)
    for each in await stored(store, 6):
        fetcher.claim(each)
    await until(lambda: len(store.asked) == blob_fetch.MAX_PARALLEL)
    fetcher.stop()
    store.gate.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert fetcher.take() == []
    assert (fetcher.num_items, fetcher.held_bytes, fetcher.is_busy) == (0, 0, False)


async def test_a_defect_is_raised_to_the_loop(store: GatedStore) -> None:
    fetcher = BlobFetcher(store)
    store.gate.set()
    store.defect = ZeroDivisionError()
    for each in await stored(store, 1):
        fetcher.claim(each)
    await until(lambda: not fetcher.is_busy)
    with pytest.raises(ZeroDivisionError):
        fetcher.take()

"""Large tensors, inline and stored by the client, with kill -9 of executors in the middle; blobs collected later."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from executors.model_store import ModelStore
from infra.registration import Registrar
from infra.settings import Settings
from schemas.model import TensorSpec
from schemas.request import BlobRef, InferenceRequest, Tensor
from schemas.result import InferenceResult
from streams.blobs.blob_collection import NAMING
from streams.blobs.blob_store import LocalBlobStore
from streams.client.client import to_tensor
from streams.connection import Connection
from streams.topics import full_name
from tests.support.broker import unique
from tests.support.exchange import Exchange, exchange
from tests.support.models import build, value, version_of
from tests.support.stack import RunningStack, stack_settings, wait_until

pytestmark = pytest.mark.timeout(480)
MODEL = "weighted-sum"
SIZES = {"256 KiB": (262_144, 8), "2 MiB": (2 << 20, 4), "10 MB": (10_000_000, 3)}
"""Bytes of all tensors and requests of each kind."""
NOW = ("--set", "max_timeout_ms=1000", "--set", "default_timeout_ms=1000", "--set", "grace_ms=0")
"""Settings of a collection that need not wait for the budgets of requests that are answered."""
RNG = np.random.default_rng(11)


def weighted_sum() -> bytes:
    """FP32: y [n] = the sum of x [n, any length] times w [n]."""
    axes = nh.from_array(np.array([1], np.int64), "axes")
    nodes = [oh.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0), oh.make_node("Mul", ["sum", "w"], ["y"])]
    return build(nodes, [value("x", "n", "m"), value("w", "n")], [value("y", "n")], [axes])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    settings = stack_settings(
        tmp_path_factory.mktemp("blobs"), executors=2, blob_keep_s=0, blob_collect_s=2, max_timeout_ms=240_000
    )
    with RunningStack(settings) as running:
        running.wait_ready(240)
        asyncio.run(register(settings))
        yield running


async def register(settings: Settings) -> None:
    blob = weighted_sum()
    inputs, outputs = (TensorSpec("x", "FP32", (-1,)), TensorSpec("w", "FP32", ())), (TensorSpec("y", "FP32", ()),)
    async with Registrar(Connection(settings.bootstrap), ModelStore(settings.data_dir)) as registrar:
        await registrar.register(blob, version_of(blob, inputs, outputs, name=MODEL, max_batch_size=8))


def large(num_bytes: int) -> tuple[tuple[Tensor, Tensor], float]:
    """Inputs of so many bytes, not in the signature's order, and what comes out: sums of whole numbers are exact."""
    x = RNG.integers(0, 2, (1, num_bytes // 4 - 1)).astype(np.float32)
    w = np.array([RNG.integers(1, 5)], np.float32)
    return (to_tensor("w", w), to_tensor("x", x)), float(x.sum(dtype=np.float64) * w[0])


async def stored(store: LocalBlobStore, inputs: tuple[Tensor, ...], **fields: object) -> InferenceRequest:
    """A request whose tensors the client stored: their data in the order in which they stand in it."""
    ref = await store.put(b"".join(each.data for each in inputs))
    return bare(inputs, ref, **fields)


def bare(inputs: tuple[Tensor, ...], ref: BlobRef, **fields: object) -> InferenceRequest:
    empty = tuple(Tensor(each.name, each.datatype, each.shape, b"") for each in inputs)
    return InferenceRequest(unique("blob"), MODEL, empty, blob=ref, timeout_ms=200_000, **fields)  # type: ignore[arg-type]


def value_of(result: InferenceResult) -> float:
    assert result.status == "OK", result.error
    (y,) = result.outputs
    return float(np.frombuffer(y.data, "<f4")[0])


def test_every_large_request_is_answered_right_across_kills(stack: RunningStack) -> None:
    asyncio.run(exchanged_across_kills(stack))
    books = stack.isos_json("ledger", "--drained")
    assert books["received"] == books["ok"] == 2 * sum(count for _, count in SIZES.values())
    assert (books["missing"], books["duplicated"], books["reaped"], books["in_flight"]) == (0, 0, 0, 0)


async def exchanged_across_kills(stack: RunningStack) -> None:
    store = LocalBlobStore.below(stack.settings.data_dir)
    made: list[tuple[InferenceRequest, float]] = []
    digests = set()
    for num_bytes, count in SIZES.values():
        for _ in range(count):
            inputs, expected = large(num_bytes)
            made.append((InferenceRequest(unique("inline"), MODEL, inputs, timeout_ms=200_000), expected))
            inputs, expected = large(num_bytes)
            by_claim = await stored(store, inputs)
            digests.add(by_claim.blob.digest if by_claim.blob else "")
            made.append((by_claim, expected))
    RNG.shuffle(made)
    async with exchange(stack.settings.bootstrap) as kafka:
        places = [await kafka.send(request, at % 2) for at, (request, _) in enumerate(made[: len(made) // 2])]
        await kafka.result(places[0], 180)
        open_at_kill = []
        for number in range(2):
            places += await more(kafka, made[len(places) : len(places) + len(made) // 4], len(places))
            name = f"executor-{number}"
            pid = await asyncio.to_thread(stack.kill, name)
            open_at_kill.append(len(places) - kafka.num_answered)
            await asyncio.to_thread(stack.wait_restarted, name, pid, 180.0)
        places += await more(kafka, made[len(places) :], len(places))
        for place, (_, expected) in zip(places, made, strict=True):
            assert value_of(await kafka.result(place, 180)) == expected
        assert any(open_at_kill), "nothing was under way when the executors were killed"
    # What was sent inline above the threshold was stored by the edge; what the client stored is there too.
    offloaded = sum(count for num_bytes, count in SIZES.values() if num_bytes > stack.settings.blob_threshold_bytes)
    assert len(await store.blobs()) == len(digests) + offloaded
    assert digests <= {blob.digest for blob in await store.blobs()}


async def more(kafka: Exchange, requests: list[tuple[InferenceRequest, float]], first: int) -> list[tuple[int, int]]:
    return [await kafka.send(request, (first + at) % 2) for at, (request, _) in enumerate(requests)]


def test_a_blob_that_is_missing_changed_or_cut_ends_with_its_code(stack: RunningStack) -> None:
    async def ask() -> dict[str, str]:
        store = LocalBlobStore.below(stack.settings.data_dir)
        inputs, _ = large(300_000)
        missing = bare(inputs, BlobRef("0" * 64, 300_000))
        changed = await stored(store, large(300_000)[0])
        cut = await stored(store, large(300_000)[0])
        assert changed.blob
        assert cut.blob
        with store.path(changed.blob.digest).open("r+b") as file:
            file.write(b"\xff")
        os.truncate(store.path(cut.blob.digest), 299_996)
        async with exchange(stack.settings.bootstrap) as kafka:
            results = {name: await kafka.ask(each) for name, each in
                       {"missing": missing, "changed": changed, "cut": cut}.items()}  # fmt: skip
        return {name: f"{each.status} {each.error.code if each.error else ''}" for name, each in results.items()}

    assert asyncio.run(ask()) == {
        "missing": "ERROR blob_missing",
        "changed": "ERROR blob_corrupt",
        "cut": "ERROR blob_corrupt",
    }


def test_blobs_stay_while_a_record_names_them_and_go_when_none_does(stack: RunningStack) -> None:
    store = LocalBlobStore.below(stack.settings.data_dir)
    named = {blob.digest for blob in asyncio.run(store.blobs())}
    assert named
    loose = asyncio.run(store.put(b"nobody names this"))
    os.utime(store.path(loose.digest), (1, 1))
    leftover = store.path(loose.digest).parent / ".new-killed"
    leftover.write_bytes(b"half of a blob")
    os.utime(leftover, (1, 1))

    # The control process collects by itself each two seconds: the old one goes, the others stay.
    wait_until(lambda: not store.path(loose.digest).exists(), 120, "the collection of a blob that nobody names")
    wait_until(lambda: not leftover.exists(), 120, "the removal of a killed writer's leftover")
    kept = stack.isos_json(*NOW, "blobs", "collect")
    assert (kept["removed"], kept["younger"]) == (0, len(named))
    assert {blob.digest for blob in asyncio.run(store.blobs())} == named

    forget(stack, "inference.requests")
    kept = stack.isos_json(*NOW, "blobs", "collect")
    assert kept["removed"] == 0
    assert kept["oldest_record_in"].startswith("isos.inference.")  # frames name them still
    for topic in NAMING:
        forget(stack, topic)

    def collected() -> bool:
        return int(stack.isos_json(*NOW, "blobs", "collect")["removed"]) > 0

    wait_until(collected, 120, "the collection of the blobs that records named")
    assert asyncio.run(store.blobs()) == []


def forget(stack: RunningStack, topic: str) -> None:
    """Move the start of the log to its end, as retention does."""
    bootstrap, name = stack.settings.bootstrap, full_name(topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("forget")})
    try:
        places = [TopicPartition(name, number) for number in admin.list_topics(name).topics[name].partitions]
        ends = [TopicPartition(name, each.partition, consumer.get_watermark_offsets(each)[1]) for each in places]
        for future in admin.delete_records(ends).values():
            future.result(20)
    finally:
        consumer.close()

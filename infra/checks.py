"""How each check of a model version is measured: by requests through the public path, the log's records, the store.

Requests go out as a tenant of their own, under ids by which the edge knows them (``streams.check_id``), pinned to the
version, at most ``ROWS_PER_S`` rows a second and few at once: the golden rows behind everybody's (priority 9), those of
serving and latency as clients send theirs. They are answered like any other and count for nothing else. Where a model
has no golden set, serving and latency look at the traffic that comes meanwhile, and send nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from executors.model_store import BlobCorruptError, BlobMissingError, ModelStore
from infra.answer_counts import STAGE, TrafficCounts, code_of, figures_of
from infra.drift_check import StatisticsCounts, reference_of
from infra.golden import GoldenDataError, GoldenRows, num_right, unpack
from infra.log_reader import LogReader
from schemas.check import DRIFT, GOLDEN_SET, INTEGRITY, LATENCY, SERVING, STATISTICS, CheckRequest, GoldenSet
from schemas.figures import (
    AnswerFigures,
    DriftFigures,
    GoldenFigures,
    HeldArtefact,
    IntegrityFigures,
    StatisticsFigures,
)
from schemas.model import ModelVersion
from schemas.telemetry import Heartbeat
from streams.blobs.content_store import StoreUnreadableError
from streams.check_id import TENANT, check_id
from streams.client.answer import Answer
from streams.client.client import Client, Request
from streams.codec import Codec
from streams.connection import Connection
from streams.errors import IsosError, PoisonRecordError
from streams.memory_view import MemoryView, active_version, golden_set, model_version
from streams.partition_log import LogRecord
from streams.tensors import Array, to_tensor
from streams.topics import full_name
from streams.watch import PartitionWatch, WatchTimeoutError

ROWS_PER_S: Final = 200.0
ITEMS: Final = 16
"""Golden rows in a request: a check is to be few requests beside those of clients."""
IN_FLIGHT: Final = 8
LOWEST_PRIORITY: Final = 9
CLIENTS_PRIORITY: Final = 5
PROBES: Final = 50
TIMEOUT_MS: Final = 5_000
WAIT_S: Final = 10.0
HEARD_S: Final = 3.0
LOOK_BACK_S: Final = 60.0
WINDOWS: Final = 1_000
BEATS: Final = 1_000
Follow = Callable[[Any], bool]


class NotRunError(IsosError):
    """A check cannot be run; ``reason`` is a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Checks:
    """What a check needs: the broker, the model store below ``data_dir``, memory as it stood when the check began.

    ``sending``: held by the one check that sends requests; ``key``: what edges know these by.
    """

    connection: Connection
    data_dir: Path
    view: MemoryView
    codec: Codec
    sending: asyncio.Lock
    key: bytes = field(repr=False)

    async def measure(self, request: CheckRequest, until_s: float) -> tuple[int, Any]:
        """How many rows (or executors) were looked at, and the figures; ``until_s`` on the monotonic clock.

        Raises NotRunError, RetriableError, and whatever the client raises.
        """
        facts = model_version(self.view, request.model, request.version)
        if facts is None:
            raise NotRunError(f"{request.model} has no version {request.version}.")
        if request.check == GOLDEN_SET:
            golden, rows = await self._golden(request.model)
            return await self._answer_golden(facts, golden, rows)
        if request.check in (SERVING, LATENCY):
            if golden_set(self.view, request.model) is None:
                return await self._traffic(request, until_s)
            return await self._probe(facts, (await self._golden(request.model))[1])
        if request.check == INTEGRITY:
            return await self._integrity(facts, until_s)
        if request.check == STATISTICS:
            return await self._statistics(facts)
        if request.check == DRIFT:
            return await self._drift(request, until_s)
        raise NotRunError(f"There is no check {request.check}.")

    async def _golden(self, model: str) -> tuple[GoldenSet, GoldenRows]:
        golden = golden_set(self.view, model)
        if golden is None:
            raise NotRunError(f"{model} has no golden set; `isos models golden --help` says how it gets one.")
        try:
            blob = await asyncio.to_thread(ModelStore(self.data_dir).get, golden.digest)
            return golden, unpack(blob)
        except (BlobMissingError, BlobCorruptError, StoreUnreadableError, GoldenDataError) as error:
            raise NotRunError(f"The golden set cannot be read: {error}.") from error

    async def _answer_golden(self, facts: ModelVersion, golden: GoldenSet, rows: GoldenRows) -> tuple[int, Any]:
        items = max(1, min(ITEMS, facts.max_batch_size))
        begins = range(0, rows.num_rows, items)
        requests = [self._request(facts, rows.slice(begin, begin + items), LOWEST_PRIORITY) for begin in begins]
        answered = right = 0
        problem = ""
        for begin, answer in zip(begins, await self._ask(requests, items), strict=True):
            num_items = min(items, rows.num_rows - begin)
            problem = problem or code_of(answer, facts.version)
            if isinstance(answer, Answer) and answer.result.status in ("OK", "ERROR"):
                answered += num_items
                if not code_of(answer, facts.version):
                    right += num_right(golden, rows, begin, answer.outputs)
        return answered, GoldenFigures(golden.digest, rows.num_rows, answered, right, problem)

    async def _probe(self, facts: ModelVersion, rows: GoldenRows) -> tuple[int, AnswerFigures]:
        requests = [
            self._request(facts, rows.slice(at, at + 1), CLIENTS_PRIORITY) for at in range(min(PROBES, rows.num_rows))
        ]
        answers = await self._ask(requests, 1)
        return len(answers), figures_of(answers, facts.version)

    def _request(self, facts: ModelVersion, inputs: dict[str, Array], priority: int) -> Request:
        """A request of a check, which only the edges of this stack take for one."""
        tensors = [to_tensor(name, array) for name, array in inputs.items()]
        request_id = check_id(self.key, secrets.token_hex(8), facts.model, facts.version, tensors)
        return Request(facts.model, inputs, facts.version, priority, TIMEOUT_MS, request_id=request_id)

    async def _ask(self, requests: list[Request], items: int) -> list[Answer | IsosError]:
        """Answers in the order of the requests, or what came in place of one."""
        async with self.sending, Client(connection=self.connection, tenant=TENANT, max_in_flight=IN_FLIGHT) as client:
            sent = paced(requests, items / ROWS_PER_S)
            async with aclosing(client.stream(sent, ordered=True, wait_s=WAIT_S, return_exceptions=True)) as arriving:
                return [answer async for answer in arriving]

    async def _traffic(self, request: CheckRequest, until_s: float) -> tuple[int, AnswerFigures]:
        """Windows of Validators since the request, until there are rows enough or no time."""
        counts = TrafficCounts(request.model, request.version, request.requested_us)
        await self._follow("control.telemetry", counts.add, until_s)
        return counts.num_rows, counts.figures()

    async def _integrity(self, facts: ModelVersion, until_s: float) -> tuple[int, IntegrityFigures]:
        """What is stored, and what executors held in the last seconds; an active version is waited for."""
        stored = await asyncio.to_thread(stored_digest, self.data_dir, facts.digest)
        held: dict[str, str] = {}

        def hear(record: Any) -> bool:
            for loaded in record.models if isinstance(record, Heartbeat) and record.role == "executor" else ():
                if (loaded.model, loaded.version) == (facts.model, facts.version):
                    held[f"executor-{record.instance}"] = loaded.digest
            return bool(held)

        since_us = (time.time_ns() - int(HEARD_S * 1e9)) // 1000
        for each in await LogReader(self.connection, self.codec).read("control.heartbeats", BEATS):
            if each.record.sent_us >= since_us:
                hear(each.record)
        if not held and active_version(self.view, facts.model) == facts.version:
            await self._follow("control.heartbeats", hear, until_s)
        return len(held), IntegrityFigures(stored, tuple(HeldArtefact(*each) for each in sorted(held.items())))

    async def _statistics(self, facts: ModelVersion) -> tuple[int, StatisticsFigures]:
        """The last minute: what Validators tell of requests, and executors of values where there is a reference."""
        since_us = (time.time_ns() - int(LOOK_BACK_S * 1e9)) // 1000
        reader = LogReader(self.connection, self.codec)
        rows = rejected = 0
        for each in await reader.read("control.telemetry", WINDOWS):
            if each.record.stage == STAGE and each.record.window_start_us >= since_us:
                parts = [part for part in each.record.models if part.model == facts.model]
                rows += sum(part.num_rows for part in parts)
                rejected += sum(part.num_rejected for part in parts)
        found = reference_of(self.view, facts.model, facts.version)
        if found is None:
            return rows, StatisticsFigures(rows, rejected)
        counts = StatisticsCounts(*found, since_us)
        for each in await reader.read("control.statistics", WINDOWS):
            counts.add(each.record)
        return rows, counts.statistics(rows, rejected)

    async def _drift(self, request: CheckRequest, until_s: float) -> tuple[int, DriftFigures]:
        """Windows that began since the request: rows that the alert did not see."""
        found = reference_of(self.view, request.model, request.version)
        if found is None:
            raise NotRunError(f"{request.model} {request.version} has no reference.")
        counts = StatisticsCounts(*found, request.requested_us)
        await self._follow("control.statistics", counts.add, until_s)
        return counts.num_sampled, counts.drift()

    async def _follow(self, topic: str, take: Follow, until_s: float) -> None:
        """Hand over the records of a topic (short name) from now on, until ``take`` says it has enough, or no time."""
        done = False

        def hand_over(batch: Any) -> None:
            nonlocal done
            for record in batch:
                done = done or take(self._record(topic, record))

        watch = PartitionWatch(self.connection, full_name(topic), hand_over, from_end=True)
        try:
            await watch.start(max(0.1, until_s - time.monotonic()))
            await watch.wait_for(lambda: done, max(0.1, until_s - time.monotonic()), f"enough of {topic}")
        except WatchTimeoutError:
            return
        finally:
            await watch.stop()

    def _record(self, topic: str, record: LogRecord) -> Any:
        try:
            return self.codec.decode(topic, record.value)
        except PoisonRecordError:
            return None


def stored_digest(data_dir: Path, digest: str) -> str:
    """SHA-256 of the bytes that are stored under a digest, or "" where there are none. NotRunError: unreadable."""
    try:
        with ModelStore(data_dir).path(digest).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, BlobMissingError):
        return ""
    except OSError as error:
        raise NotRunError(f"The model store cannot be read: {error.strerror or error}.") from error


async def paced(requests: list[Request], gap_s: float) -> AsyncIterator[Request]:
    """Requests, each at least ``gap_s`` after the one before."""
    next_s = time.monotonic()
    for request in requests:
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        next_s = max(next_s, time.monotonic()) + gap_s
        yield request

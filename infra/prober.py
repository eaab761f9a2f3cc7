"""The prober: measures what ``control.validation-requests`` asks for, and writes ``control.observations``.

A job beside the control agents. A few checks at a time, each until its deadline; what waits is bounded. Whatever
happens to a check is an observation: one that could not be run says why. After a restart it goes on with requests that
have no observation and still have time. Where several control processes run, each measures, and the first observation
counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from aiokafka.errors import KafkaError

from infra.check_key import check_key
from infra.checks import Checks
from infra.log_reader import LogReader
from infra.roles import together
from infra.settings import Settings
from schemas.check import CheckRequest, Observation
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import IsosError, PoisonRecordError, RetriableError
from streams.partition_log import KafkaLog, LogRecord
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch, PartitionWatch

log = logging.getLogger(__name__)

REQUESTS: Final = "control.validation-requests"
OBSERVATIONS: Final = "control.observations"
MAX_WAITING: Final = 64
AT_ONCE: Final = 4
"""Most of a check is waiting for windows and heartbeats; of those that send requests, one does at a time."""
KNOWN: Final = 256
LAST: Final = 200
MARGIN_S: Final = 2.0
"""What is left of a check's time for its outcome to arrive."""
SEND_S: Final = 10.0
MEMORY_S: Final = 10.0
RETRY_S: Final = 5.0


class Measures(Protocol):
    """What measures a check, as ``infra.checks.Checks``."""

    async def measure(self, request: CheckRequest, until_s: float) -> tuple[int, Any]:
        """How many rows were looked at, and the figures. Raises NotRunError."""


Opened = Callable[[], Awaitable[Measures]]


class Waiting:
    """Requests in the order in which they came, each once, without those that are answered."""

    def __init__(self, answered: Sequence[str] = ()) -> None:
        self._known: deque[str] = deque(answered, maxlen=KNOWN)
        self._requests: deque[CheckRequest] = deque()
        self._come = asyncio.Event()

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: CheckRequest, now_us: int) -> bool:
        """Take a request in unless it is known or too late; False when there is no room for it."""
        if request.request_id in self._known or request.deadline_us <= now_us:
            return True
        if len(self._requests) >= MAX_WAITING:
            return False
        self._known.append(request.request_id)
        self._requests.append(request)
        self._come.set()
        return True

    async def take(self) -> CheckRequest:
        """The oldest request; waits for one."""
        while not self._requests:
            self._come.clear()
            await self._come.wait()
        return self._requests.popleft()


async def probe(settings: Settings, connection: Connection) -> None:
    """Run until cancelled; begin anew where the broker was away."""
    while True:
        try:
            await _probe(settings, connection)
        except (KafkaError, RetriableError) as error:
            log.warning("checks of models are interrupted: %s", error)
        await asyncio.sleep(RETRY_S)


async def _probe(settings: Settings, connection: Connection) -> None:
    codec = Codec(await read_schema_ids(connection))
    answered = await LogReader(connection, codec).read(OBSERVATIONS, LAST)
    waiting = Waiting([each.record.request.request_id for each in answered])

    def hand_over(batch: Sequence[LogRecord]) -> None:
        for record in batch:
            request = _decoded(codec, record)
            if request is not None and not waiting.add(request, time.time_ns() // 1000):
                log.warning("too many checks wait: %s is left out", request.request_id)

    async def learn(batch: Sequence[LogRecord]) -> None:
        if not all(codec.knows(REQUESTS, record.value or b"") for record in batch):
            codec.refresh(await read_schema_ids(connection))

    sending = asyncio.Lock()

    async def opened() -> Measures:
        return await open_checks(settings, connection, sending)

    async def work() -> None:
        while True:
            observation = await observed(await waiting.take(), opened)
            value = codec.encode(OBSERVATIONS, observation)
            key = observation.request.model.encode()
            sent = sender.send_and_wait(full_name(OBSERVATIONS), value, key=key)
            await bounded(sent, SEND_S, "writing an observation")

    end = (await KafkaLog(connection).bounds(full_name(REQUESTS), 0))[1]
    watch = PartitionWatch(connection, full_name(REQUESTS), hand_over, first=max(0, end - LAST), prepare=learn)
    sender = producer(connection, enable_idempotence=True)
    try:
        await start(sender, "connecting to write observations")
        await watch.start()
        await together(*(work() for _ in range(AT_ONCE)))
    finally:
        await watch.stop()
        await stop_quietly(sender)


async def observed(request: CheckRequest, opened: Opened) -> Observation:
    """Measure, within the request's time; what goes wrong is an observation, too."""
    started_us = time.time_ns() // 1000
    left_s = (request.deadline_us - started_us) / 1e6 - MARGIN_S
    until_s = time.monotonic() + left_s
    problem = "It came too late to be run."
    try:
        if left_s > 0:
            async with asyncio.timeout(left_s + MARGIN_S / 2):
                num_samples, figures = await (await opened()).measure(request, until_s)
            return Observation(request, True, "", num_samples, to_json(figures), started_us, time.time_ns() // 1000)
    except TimeoutError:
        problem = "It did not end before its deadline."
    except IsosError as error:
        problem = str(error)
    except Exception as error:  # a defect of one check must end neither the others nor the control plane
        log.exception("the check %s met a defect of ours", request.request_id)
        problem = f"A defect of ours: {type(error).__name__}."
    log.warning("the check %s could not be run: %s", request.request_id, problem)
    return Observation(request, False, problem, 0, "", started_us, time.time_ns() // 1000)


async def open_checks(settings: Settings, connection: Connection, sending: asyncio.Lock) -> Checks:
    """The measurements with schemas and memory as they stand now. Raises RetriableError when the broker is away."""
    codec = Codec(await read_schema_ids(connection))
    memory = MemoryWatch(connection, codec)
    try:
        await memory.start(MEMORY_S)
    finally:
        await memory.stop()
    return Checks(connection, settings.data_dir, memory.view, codec, sending, check_key(settings))


def _decoded(codec: Codec, record: LogRecord) -> CheckRequest | None:
    try:
        request: CheckRequest = codec.decode(REQUESTS, record.value)
    except PoisonRecordError as error:
        log.warning("a request for a check cannot be read: %s", error)
        return None
    return request

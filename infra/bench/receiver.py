"""Reads results as they come, on a thread of its own, and notes a few integers of each."""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Iterable
from typing import Any, Final

import confluent_kafka as ck
import numpy as np

from infra.bench.config import Config
from infra.bench.measure import Ints, Received
from streams.ledger import REAPED_HEADER, SOURCE, SOURCE_HEADER, STATUS_HEADER, STATUS_LETTERS

START_S: Final = 20.0
GULP: Final = 4096
"""Messages taken over from the client library at once at most."""


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Notes:
    """What is kept of results: six integers each (``measure.Received``). ``run`` begins the keys of our requests."""

    def __init__(self, run: str) -> None:
        self._prefix = f"{run}-".encode()
        self._columns: tuple[array[int], ...] = tuple(array("q") for _ in range(6))

    def __len__(self) -> int:
        return len(self._columns[-1])

    def add(self, messages: Iterable[Any], at_us: int) -> None:
        """Note messages of the results topic (``confluent_kafka.Message``) that came at an instant."""
        partitions, offsets, instants, statuses, reaped, indices = self._columns
        unpack, letters, prefix = SOURCE.unpack, STATUS_LETTERS, self._prefix
        size = len(prefix)
        for message in messages:
            if message.error() is not None:
                print(f"results: {message.error()}", file=sys.stderr, flush=True)
                continue
            headers = dict(message.headers() or ())
            source = headers.get(SOURCE_HEADER)
            if source is None:
                continue
            key = message.key()
            _, partition, offset = unpack(source)
            partitions.append(partition)
            offsets.append(offset)
            instants.append(at_us)
            statuses.append(letters.get(headers.get(STATUS_HEADER, b""), 0))
            reaped.append(REAPED_HEADER in headers)
            indices.append(int(key[size:], 16) if key is not None and key[:size] == prefix else -1)

    def columns(self) -> Received:
        """A copy as columns."""
        return Received(*(column_of(column) for column in self._columns))


class Receiver:
    """Reads all partitions of the results topic from their ends at creation, on a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._consumer = ck.Consumer({
            "bootstrap.servers": config.brokers,
            "group.id": f"isos-load-{config.run}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "fetch.wait.max.ms": 100,
            "check.crcs": False,
            "queued.min.messages": 100_000,
            "socket.nagle.disable": True,
        })  # fmt: skip
        self._notes = Notes(config.run)
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # an array cannot grow while it is being copied
        topics = self._consumer.list_topics(config.results_topic, timeout=10).topics
        parts = [ck.TopicPartition(config.results_topic, p) for p in topics[config.results_topic].partitions]
        for part in parts:
            part.offset = _end_of(self._consumer, part)
        self._consumer.assign(parts)
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    @property
    def num_results(self) -> int:
        """Results read so far."""
        return len(self._notes)

    def _run(self) -> None:
        consumer = self._consumer
        while not self._stopped.is_set():
            # poll returns at once when something is there; consume(n, timeout) would wait for n or for the time-out.
            first = consumer.poll(0.1)
            if first is None:
                continue
            messages = [first, *consumer.consume(GULP, 0)]
            with self._lock:
                self._notes.add(messages, now_us())

    def snapshot(self) -> Received:
        """Columns of the results read so far."""
        with self._lock:
            return self._notes.columns()

    def stop(self) -> None:
        """End the thread and close the consumer."""
        self._stopped.set()
        self._thread.join()
        self._consumer.close()


def _end_of(consumer: ck.Consumer, part: ck.TopicPartition) -> int:
    """End offset of a partition; a leader that is being elected is asked again."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            return int(consumer.get_watermark_offsets(part, timeout=10)[1])
        except ck.KafkaException:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def column_of(values: array[int]) -> Ints:
    """A copy as a numpy column."""
    return np.array(values, dtype=np.int64)

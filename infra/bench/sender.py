"""Sends requests by the clock, whatever the server does, and notes what the broker said of them."""

from __future__ import annotations

import sys
import threading
import time
from array import array
from typing import Any

import confluent_kafka as ck
import numpy as np

from infra.bench.config import Config
from infra.bench.measure import Received, Sent, located
from infra.bench.receiver import column_of, now_us
from infra.bench.schedule import Schedule
from infra.bench.template import Rows, template


class Sender:
    """Sends by the clock from the calling thread; refusals, and acknowledgements if wanted, are noted by index."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._producer = ck.Producer({
            "bootstrap.servers": config.brokers,
            "acks": "all",
            # With idempotence on, librdkafka 2.16 spins for seconds at a time. Without it nothing is sent again, or a
            # request could be written twice.
            "enable.idempotence": config.confirm,
            "message.send.max.retries": 10_000_000 if config.confirm else 0,
            "linger.ms": config.linger_ms,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            "message.max.bytes": 12_582_912,
            "message.timeout.ms": 120_000,
            "socket.nagle.disable": True,
            "delivery.report.only.error": not config.confirm,
            "on_delivery": self._acknowledged,
        })  # fmt: skip
        topics = self._producer.list_topics(config.requests_topic, timeout=10).topics
        self._num_partitions = len(topics[config.requests_topic].partitions)
        self._schedule = Schedule.of(pieces(config))
        self._templates = [template(load, config.schema_id, timeout_ms=config.timeout_ms) for load in config.loads]
        self._rows = [Rows(load, config.seed + i) for i, load in enumerate(config.loads)]
        weights = np.array([load.weight for load in config.loads])
        rng = np.random.default_rng(config.seed)
        self._mix = rng.choice(len(config.loads), size=65_536, p=weights / weights.sum()).tolist()
        self._bursts = (array("q"), array("q"))  # how many requests left, and when
        self._num_sent = 0
        self._acks = (array("q"), array("q"), array("q"))
        self._refused = array("q")
        self._num_lost = 0
        self._start_us = 0

    @property
    def num_sent(self) -> int:
        """Requests handed to the producer so far."""
        return self._num_sent

    @property
    def num_acknowledged(self) -> int:
        """Requests that the broker has confirmed."""
        if self._config.confirm:
            return len(self._acks[0])
        return max(self._num_sent - len(self._refused) - len(self._producer), 0)

    def run(self, stop: threading.Event) -> None:
        """Send until the schedule's end or ``stop``, and say every second how far it has come."""
        schedule, tick_s = self._schedule, self._config.tick_ms / 1e3
        self._start_us, start = now_us(), time.perf_counter()
        report_at = 1.0
        while not stop.is_set():
            elapsed = time.perf_counter() - start
            if elapsed >= schedule.end_s:
                self._send_up_to(schedule.size)
                return
            self._send_up_to(schedule.due(elapsed))
            self._producer.poll(0)
            if elapsed >= report_at:
                report_at += 1.0
                print(f"sent {self._num_sent} acknowledged {self.num_acknowledged}", flush=True)
            # A sparse load leaves on the instant, a dense one by ticks.
            wake = max(elapsed + tick_s, min(schedule.at_s(self._num_sent), report_at))
            time.sleep(max(0.0, wake - (time.perf_counter() - start)))

    def _send_up_to(self, due: int) -> None:
        if due <= self._num_sent:
            return
        topic, run, parts = self._config.requests_topic, self._config.run, self._num_partitions
        mix, templates, rows, produce = self._mix, self._templates, self._rows, self._producer.produce
        at_us, first = now_us(), self._num_sent
        for index in range(first, due):
            which = mix[index & 0xFFFF]
            request_id = f"{run}-{index:010x}"
            value = templates[which].value(request_id, rows[which].row(index))
            while True:
                try:
                    produce(topic, value, request_id, index % parts)
                    break
                except BufferError:
                    self._note_burst(index - first, at_us)
                    self._producer.poll(0.01)
                    at_us, first = now_us(), index
        self._note_burst(due - first, at_us)

    def _note_burst(self, count: int, at_us: int) -> None:
        sizes, instants = self._bursts
        sizes.append(count)
        instants.append(at_us)
        self._num_sent += count

    def _acknowledged(self, error: ck.KafkaError | None, message: Any) -> None:
        number = int(message.key()[-10:], 16)
        if error is not None:
            self._refused.append(number)
            print(f"request {message.key()!r}: {error}", file=sys.stderr, flush=True)
            return
        index, partition, offset = self._acks
        index.append(number)
        partition.append(message.partition())
        offset.append(message.offset())

    def flush(self, seconds: float) -> int:
        """Wait for acknowledgements; number of requests still without one."""
        self._num_lost = int(self._producer.flush(seconds))
        return self._num_lost

    def columns(self, received: Received) -> Sent:
        """Columns of everything sent; without ``confirm``, places are those that the results so far name."""
        size = self._num_sent
        if self._config.confirm:
            partition, offset = (np.full(size, -1, np.int64) for _ in range(2))
            index = column_of(self._acks[0])
            partition[index] = column_of(self._acks[1])
            offset[index] = column_of(self._acks[2])
        else:
            refused = column_of(self._refused)
            partition, offset = located(size, self._num_partitions, refused, self._num_lost, received)
        numbers = np.arange(size, dtype=np.int64)
        scheduled = self._start_us + self._schedule.times_us(size)
        load = np.array(self._mix, np.int64)[numbers & 0xFFFF]
        sizes, instants = (column_of(column) for column in self._bursts)
        return Sent(scheduled, np.repeat(instants, sizes), partition, offset, load)


def pieces(config: Config) -> tuple[tuple[float, float], ...]:
    """Pieces of constant rate, cut at ``limit_s``."""
    pieces = config.steps or ((config.rate, config.seconds or config.limit_s),)
    left, steps = config.limit_s, []
    for rate, seconds in pieces:
        steps.append((rate, min(seconds, left)))
        left -= steps[-1][1]
    return tuple(step for step in steps if step[1] > 0)

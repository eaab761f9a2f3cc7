"""Records that nobody can read, sent beside good traffic at a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer

from streams.topics import full_name

REQUESTS = full_name("inference.requests")
GARBAGE: Sequence[tuple[str, Callable[[int], bytes | None]]] = (
    ("garbage", lambda number: b"\xff" + str(number).encode()),
    ("null_value", lambda number: None),
)
"""Code and value by number."""


class Poison(threading.Thread):
    """Sends ``values`` in turn, ``rate`` a second over both partitions, until stopped; ``places`` has what they are."""

    def __init__(
        self, bootstrap: str, values: Sequence[tuple[str, Callable[[int], bytes | None]]], rate: float
    ) -> None:
        super().__init__(daemon=True)
        self.values, self.rate = values, rate
        self.places: dict[tuple[int, int], str] = {}
        self.stopped = threading.Event()
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})

    def run(self) -> None:
        """Send by the clock."""
        began, number = time.monotonic(), 0
        while not self.stopped.wait(0.002):
            while number < (time.monotonic() - began) * self.rate:
                kind, value = self.values[number % len(self.values)]
                self.producer.produce(
                    REQUESTS, value(number), f"poison-{number}", number % 2, headers=[("n", str(number).encode())],
                    on_delivery=lambda error, message, kind=kind: self._note(error, message, kind),
                )  # fmt: skip
                number += 1
            self.producer.poll(0)
        assert self.producer.flush(30) == 0

    def finish(self) -> None:
        """Stop, and wait until all of it is acknowledged."""
        self.stopped.set()
        self.join()

    def _note(self, error: Any, message: Any, kind: str) -> None:
        assert error is None
        self.places[message.partition(), message.offset()] = kind

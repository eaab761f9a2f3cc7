"""The registry killed under load, and garbage that names schemas nobody registered: the traffic notices neither."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.codec import subject_of
from streams.connection import Connection
from streams.registry.schema_log import read_schema_ids, read_schema_log
from streams.registry.schema_watch import FAR_QUESTIONS_PER_S, LOOKED_FOR
from streams.topics import full_name
from tests.support.broker import unique
from tests.support.faults import chaos_seed, ledger
from tests.support.load import Load, LoadRun, Record
from tests.support.schemas import record
from tests.support.served import MODEL
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(420)
RATE = 200.0
GARBAGE_PER_S = 200
GARBAGE_S = 10.0
QUIET_S = 4
KILLS = 2


@pytest.fixture
def stack(two: RunningStack) -> RunningStack:
    return two


def traffic(stack: RunningStack, folder: Any) -> LoadRun:
    ids = asyncio.run(read_schema_ids(Connection(stack.settings.bootstrap)))
    schema_id = ids.write_ids[subject_of("inference.requests")]
    return LoadRun(folder, stack.settings.bootstrap, schema_id, [Load(MODEL)], RATE)


def check(run: Record, stack: RunningStack) -> None:
    counts = run.summary
    assert counts["ok"] == counts["sent"] == counts["acknowledged"] > 0, counts
    assert (counts["missing"], counts["duplicated"], counts["reaped"]) == (0, 0, 0)
    books = ledger(stack)
    assert books["exit_status"] == 0, books
    assert (books["missing"], books["duplicated"], books["in_flight"]) == (0, 0, 0)


class Asked:
    """The registry's REST interface, as a client that tries again while nobody listens."""

    def __init__(self, stack: RunningStack) -> None:
        self.url = stack.settings.registry_address

    def __call__(self, path: str, body: Any = None, seconds: float = 60.0) -> Any:
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode())
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    raise AssertionError(error.read().decode()) from error
            except OSError:
                if time.monotonic() > deadline:
                    raise
            threading.Event().wait(0.05)

    def register(self, subject: str, text: str) -> int:
        return int(self(f"/subjects/{subject}/versions", {"schema": text})["id"])


def test_a_killed_registry_is_not_noticed_and_comes_back_with_the_same_ids(stack: RunningStack, tmp_path: Any) -> None:
    ask, name = Asked(stack), unique("strangers")
    first = ask.register(name, record(("a", "long")))
    with traffic(stack, tmp_path) as load:
        load.go()
        load.wait_for_flow()
        known = ask("/schemas")
        pid = stack.kill("registry")
        stack.wait_restarted("registry", pid)
        assert ask("/schemas") == known
        assert ask.register(name, record(("a", "long"))) == first
        second = ask.register(name, record(("a", "long"), ("b", "long", 0)))
        assert second == first + 1
        killed_while_it_registers(stack, ask)
        run = load.stop()
    check(run, stack)


def killed_while_it_registers(stack: RunningStack, ask: Asked) -> None:
    """Kill -9 between the request and its answer, again and again: no id comes twice, none is lost."""
    rng, given = random.Random(chaos_seed()), {}
    for kill in range(KILLS):
        texts = [record((f"f{n}", "long", 0), name=f"Killed{kill}_{n}") for n in range(20)]
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask.register, unique("k"), text) for text in texts]
            threading.Event().wait(rng.uniform(0.0, 0.2))  # the moment of the fault
            pid = stack.kill("registry")
            given |= {text: future.result() for text, future in zip(texts, asked, strict=True)}
        stack.wait_restarted("registry", pid)
    assert len(set(given.values())) == len(given) == 20 * KILLS
    log = asyncio.run(read_schema_log(Connection(stack.settings.bootstrap)))
    for text, schema_id in given.items():
        assert json.loads(ask(f"/schemas/ids/{schema_id}")["schema"]) == json.loads(text)
        assert {entry.text for entry in log.by_id(schema_id)} == {text}
    ids = sorted({entry.schema_id for entry in log.versions.values()})
    assert ids == list(range(1, len(ids) + 1))


def test_random_schema_ids_cost_the_traffic_nothing(stack: RunningStack, tmp_path: Any) -> None:
    edges = [name for name in stack.processes() if name.startswith("edge-")]
    garbage = Garbage(stack.settings.bootstrap, random.Random(chaos_seed()))
    with traffic(stack, tmp_path) as load, letters_end(stack) as end:
        load.go()
        wait_until(lambda: acknowledged(load) >= QUIET_S * RATE, 60, "some quiet seconds")
        looks, letters = looked_for(stack, edges), end()
        began_us, began = time.time_ns() // 1000, time.monotonic()
        garbage.start()
        garbage.join()
        ended_us = time.time_ns() // 1000
        wait_until(lambda: end() - letters >= garbage.num_sent, 60, "a dead letter for each piece of garbage")
        seconds = time.monotonic() - began
        sent = acknowledged(load)
        wait_until(lambda: acknowledged(load) >= sent + QUIET_S * RATE, 60, "some quiet seconds afterwards")
        run = load.stop()
    looks = looked_for(stack, edges) - looks
    # The slower one of before and after: other work on the machine is no fault of the garbage.
    quiet = max(median_ms(run, 0, began_us), median_ms(run, ended_us, 1 << 62))
    noisy = median_ms(run, began_us, ended_us)
    print(f"\n{garbage.num_sent} unknown ids in {seconds:.1f} s: {looks} looks, median {quiet:.1f} -> {noisy:.1f} ms")
    assert garbage.num_sent == GARBAGE_PER_S * GARBAGE_S
    assert 0 < looks <= len(edges) * FAR_QUESTIONS_PER_S * (seconds + 1)
    assert noisy < 3 * quiet + 50
    check(run, stack)


class Garbage(threading.Thread):
    """Well-formed prefixes with random ids, ``GARBAGE_PER_S`` a second for ``GARBAGE_S`` seconds."""

    def __init__(self, bootstrap: str, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._producer = Producer({"bootstrap.servers": bootstrap, "socket.nagle.disable": True})
        self._rng = rng
        self.num_sent = 0

    def run(self) -> None:
        began = time.monotonic()
        for tick in range(int(GARBAGE_S * 10)):
            for _ in range(GARBAGE_PER_S // 10):
                schema_id = self._rng.randrange(1 << 20, 1 << 31)
                value = b"\x00" + schema_id.to_bytes(4, "big") + self._rng.randbytes(40)
                self._producer.produce(full_name("inference.requests"), value)
                self.num_sent += 1
            self._producer.poll(0)
            threading.Event().wait(max(0.0, began + (tick + 1) / 10 - time.monotonic()))  # the rate of the fault
        self._producer.flush(20)


def looked_for(stack: RunningStack, processes: list[str]) -> int:
    return sum(stack.log(name).count(LOOKED_FOR) for name in processes)


@contextlib.contextmanager
def letters_end(stack: RunningStack) -> Iterator[Callable[[], int]]:
    """The end of the dead letters, asked for anew at each call."""
    client = Consumer({"bootstrap.servers": stack.settings.bootstrap, "group.id": unique("letters")})
    topic = full_name("inference.dlq")
    try:
        partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        yield lambda: sum(int(client.get_watermark_offsets(place, timeout=10)[1]) for place in places)
    finally:
        client.close()


def acknowledged(load: LoadRun) -> int:
    words = load.progress.split()
    return int(words[3]) if words[:1] == ["sent"] else 0


def median_ms(run: Record, from_us: int, to_us: int) -> float:
    """Median latency of the requests that were due in a span."""
    due = (run.sent.scheduled_us >= from_us) & (run.sent.scheduled_us < to_us)
    return float(np.median(run.matched.latency_us[due])) / 1000

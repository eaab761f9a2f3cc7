"""Open-loop load generator, a process of its own: ``python -m infra.bench.generator CONFIG.json``.

Requests leave by the clock, whatever the server does. One thread sends and takes in acknowledgements, another reads
results; nothing is matched until the end, so a request costs a splice, a callback and a few appended integers.

On stdout, one line each: ``ready`` (results are watched, nothing sent yet), ``sent N results N`` every second,
``drained`` or ``incomplete``. On stdin, if ``interactive``: ``go`` starts, ``stop`` or the end of the input stops.
Writes ``<out>.json`` (``measure.Summary``) and ``<out>.npz`` (a column per field of ``measure.Sent`` and of
``measure.Matched``, in request order).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import confluent_kafka as ck
import numpy as np

from infra.bench.measure import Ints, Matched, Received, Sent, Summary, match, summarise
from infra.bench.template import Load, Rows, template
from streams.ledger import REAPED_HEADER, SOURCE, SOURCE_HEADER, STATUS_HEADER, STATUS_LETTERS
from streams.topics import full_name

MAX_REQUESTS: Final = 20_000_000
SLOT_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Config:
    """One run. ``seconds`` 0 = until told to stop; ``limit_s`` ends the sending in any case; times in seconds.

    ``schema_id`` is the id of the requests subject in the registry. ``run`` (8 characters) begins every request id.
    """

    brokers: str
    schema_id: int
    loads: tuple[Load, ...]
    rate: float
    out: str
    run: str
    seconds: float = 0.0
    warmup_s: float = 0.0
    limit_s: float = 600.0
    drain_s: float = 30.0
    timeout_ms: int = 0
    seed: int = 1
    interactive: bool = False
    requests_topic: str = field(default_factory=lambda: full_name("inference.requests"))
    results_topic: str = field(default_factory=lambda: full_name("inference.results"))

    def write(self, path: Path) -> None:
        """Write as JSON for the generator's command line."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read what ``write`` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        loads = tuple(Load(**{**load, "item_shape": tuple(load["item_shape"])}) for load in fields.pop("loads"))
        return cls(loads=loads, **fields)


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Receiver:
    """Reads all partitions of the results topic from their ends at creation, on a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._consumer = ck.Consumer({
            "bootstrap.servers": config.brokers,
            "group.id": f"isos-load-{config.run}",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            "check.crcs": False,
            "queued.min.messages": 100_000,
            "socket.nagle.disable": True,
        })  # fmt: skip
        self._columns: tuple[array[int], ...] = tuple(array("q") for _ in range(5))
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # an array cannot grow while it is being copied
        topics = self._consumer.list_topics(config.results_topic, timeout=10).topics
        parts = [ck.TopicPartition(config.results_topic, p) for p in topics[config.results_topic].partitions]
        for part in parts:
            part.offset = self._consumer.get_watermark_offsets(part, timeout=10)[1]
        self._consumer.assign(parts)
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    @property
    def num_results(self) -> int:
        """Results read so far."""
        return len(self._columns[4])

    def _run(self) -> None:
        consumer = self._consumer
        while not self._stopped.is_set():
            # poll returns at once when something is there; consume(n, timeout) would wait for n or for the time-out.
            first = consumer.poll(0.1)
            if first is None:
                continue
            messages = [first, *consumer.consume(1000, 0)]
            with self._lock:
                self._note(messages, now_us())

    def _note(self, messages: list[ck.Message], at_us: int) -> None:
        partitions, offsets, instants, statuses, reaped = self._columns
        for message in messages:
            if message.error() is not None:
                print(f"results: {message.error()}", file=sys.stderr, flush=True)
                continue
            headers: dict[str, Any] = dict(message.headers() or ())
            source = headers.get(SOURCE_HEADER)
            if source is None:
                continue
            _, partition, offset = SOURCE.unpack(source)
            partitions.append(partition)
            offsets.append(offset)
            instants.append(at_us)
            statuses.append(STATUS_LETTERS.get(headers.get(STATUS_HEADER, b""), 0))
            reaped.append(REAPED_HEADER in headers)

    def snapshot(self) -> Received:
        """Columns of the results read so far."""
        with self._lock:
            return Received(*(_column(column) for column in self._columns))

    def stop(self) -> None:
        """End the thread and close the consumer."""
        self._stopped.set()
        self._thread.join()
        self._consumer.close()


def _column(values: array[int]) -> Ints:
    return np.array(values, dtype=np.int64)


class Sender:
    """Sends by the clock from the calling thread; acknowledgements are noted by request index."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._producer = ck.Producer({
            "bootstrap.servers": config.brokers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            "message.timeout.ms": 120_000,
            "socket.nagle.disable": True,
        })  # fmt: skip
        topics = self._producer.list_topics(config.requests_topic, timeout=10).topics
        self._num_partitions = len(topics[config.requests_topic].partitions)
        self._templates = [template(load, config.schema_id, timeout_ms=config.timeout_ms) for load in config.loads]
        self._rows = [Rows(load, config.seed + i) for i, load in enumerate(config.loads)]
        weights = np.array([load.weight for load in config.loads])
        rng = np.random.default_rng(config.seed)
        self._mix = rng.choice(len(config.loads), size=65_536, p=weights / weights.sum()).tolist()
        self._sent_us = array("q")
        self._acks = (array("q"), array("q"), array("q"))
        self._start_us = 0

    @property
    def num_sent(self) -> int:
        """Requests handed to the producer so far."""
        return len(self._sent_us)

    def run(self, stop: threading.Event) -> None:
        """Send until ``seconds``, ``limit_s`` or ``stop``."""
        config = self._config
        limit_s = min(config.seconds or config.limit_s, config.limit_s)
        self._start_us, start = now_us(), time.perf_counter()
        report_at = 1.0
        while not stop.is_set():
            elapsed = time.perf_counter() - start
            if elapsed >= limit_s:
                break
            due = min(int(elapsed * config.rate) + 1, int(limit_s * config.rate), MAX_REQUESTS)
            self._send_up_to(due)
            self._producer.poll(0)
            if elapsed >= report_at:
                report_at += 1.0
                print(f"sent {self.num_sent} acknowledged {len(self._acks[0])}", flush=True)
            time.sleep(SLOT_S)

    def _send_up_to(self, due: int) -> None:
        topic, run, parts = self._config.requests_topic, self._config.run, self._num_partitions
        mix, templates, rows, produce = self._mix, self._templates, self._rows, self._producer.produce
        at_us = now_us()
        for index in range(len(self._sent_us), due):
            which = mix[index & 0xFFFF]
            request_id = f"{run}-{index:010x}"
            value = templates[which].value(request_id, rows[which].row(index))
            while True:
                try:
                    produce(topic, value, request_id, index % parts, self._acknowledged)
                    break
                except BufferError:
                    self._producer.poll(0.01)
                    at_us = now_us()
            self._sent_us.append(at_us)

    def _acknowledged(self, error: ck.KafkaError | None, message: Any) -> None:
        if error is not None:
            print(f"request {message.key()!r}: {error}", file=sys.stderr, flush=True)
            return
        index, partition, offset = self._acks
        index.append(int(message.key()[-10:], 16))
        partition.append(message.partition())
        offset.append(message.offset())

    def flush(self, seconds: float) -> int:
        """Wait for acknowledgements; number of requests still without one."""
        return int(self._producer.flush(seconds))

    def columns(self) -> Sent:
        """Columns of everything sent."""
        size = len(self._sent_us)
        index = _column(self._acks[0])
        partition, offset = (np.full(size, -1, np.int64) for _ in range(2))
        partition[index] = _column(self._acks[1])
        offset[index] = _column(self._acks[2])
        numbers = np.arange(size, dtype=np.int64)
        scheduled = self._start_us + (numbers * (1e6 / self._config.rate)).astype(np.int64)
        load = np.array(self._mix, np.int64)[numbers & 0xFFFF]
        return Sent(scheduled, _column(self._sent_us), partition, offset, load)


def drain(sent: Sent, receiver: Receiver, seconds: float) -> bool:
    """Wait until every acknowledged request has a result; False when ``seconds`` are over before."""
    acknowledged = int(np.count_nonzero(sent.partition >= 0))
    deadline = time.monotonic() + seconds
    while True:
        if receiver.num_results >= acknowledged:
            matched = match(sent, receiver.snapshot())
            if int(np.count_nonzero(matched.results[sent.partition >= 0])) == acknowledged:
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)


def _listen(start: threading.Event, stop: threading.Event) -> None:
    for line in sys.stdin:
        match line.strip():
            case "go":
                start.set()
            case "stop":
                break
    start.set()
    stop.set()


def run(config: Config) -> Summary:
    """Perform one run and write its two files."""
    start, stop = threading.Event(), threading.Event()
    sys.setswitchinterval(0.0005)  # the two threads hand over often and briefly; the default of 5 ms would show
    receiver, sender = Receiver(config), Sender(config)
    print("ready", flush=True)
    if config.interactive:
        threading.Thread(target=_listen, args=(start, stop), name="stdin", daemon=True).start()
        start.wait(config.limit_s)
    sender.run(stop)
    sender.flush(config.drain_s)
    sent = sender.columns()
    complete = drain(sent, receiver, config.drain_s)
    if complete:
        time.sleep(0.5)  # a second result of the last requests would still be on its way
    receiver.stop()
    matched = match(sent, receiver.snapshot())
    summary = summarise(sent, matched, warmup_us=int(config.warmup_s * 1e6))
    _write(config, sent, matched, summary)
    print("drained" if complete else "incomplete", flush=True)
    return summary


def _write(config: Config, sent: Sent, matched: Matched, summary: Summary) -> None:
    columns = {**asdict(sent), **asdict(matched)}
    columns.pop("foreign")
    with Path(f"{config.out}.npz").open("wb") as file:
        np.savez(file, **columns)
    Path(f"{config.out}.json").write_text(json.dumps(asdict(summary), indent=2) + "\n", encoding="utf-8")


def read_columns(path: Path) -> tuple[Sent, Matched]:
    """Read the columns that a run wrote to ``<out>.npz``."""
    with np.load(path) as file:
        sent = Sent(*(file[name] for name in Sent.__slots__))
        return sent, Matched(file["latency_us"], file["status"], file["results"], file["reaped"], foreign=0)


def main() -> None:
    """Run the configuration file named on the command line."""
    run(Config.read(Path(sys.argv[1])))


if __name__ == "__main__":
    main()

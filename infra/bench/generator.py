"""Open-loop load generator, a process of its own: ``python -m infra.bench.generator CONFIG.json``.

Requests leave by the clock, whatever the server does. One thread sends and takes in what the broker says (``sender``),
another reads results (``receiver``); nothing is matched until the end, so a request costs a splice and a few appended
integers.

On stdout, one line each: ``ready`` (results are watched, nothing sent yet), ``sent N acknowledged N`` every second,
``drained`` or ``incomplete``. On stdin, if ``interactive``: ``go`` starts, ``stop`` or the end of the input stops.
Writes ``<out>.json`` (``measure.Summary``) and ``<out>.npz`` (a column per field of ``measure.Sent`` and of
``measure.Matched``, in request order).
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import confluent_kafka as ck
import numpy as np

from infra.bench.config import Config
from infra.bench.measure import Matched, Sent, Summary, match, match_by_id, misplaced, summarise
from infra.bench.receiver import Receiver
from infra.bench.sender import Sender


def drain(sender: Sender, receiver: Receiver, config: Config) -> bool:
    """Wait until every acknowledged request has a result; False when ``drain_s`` are over before."""
    deadline = time.monotonic() + config.drain_s
    while True:
        if receiver.num_results >= sender.num_acknowledged:
            sent, matched, _ = _outcome(sender, receiver, config)
            if bool((matched.results[sent.partition >= 0] > 0).all()):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)


def _outcome(sender: Sender, receiver: Receiver, config: Config) -> tuple[Sent, Matched, int]:
    """What was sent, what came of it so far, and how many results contradict it."""
    received = receiver.snapshot()
    sent = sender.columns(received)
    return sent, (match if config.confirm else match_by_id)(sent, received), misplaced(sent, received)


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
    gc.collect()
    gc.freeze()  # and nothing below makes cycles, so a collection would only stop the clock
    gc.disable()
    sender.run(stop)
    sender.flush(config.drain_s)
    complete = drain(sender, receiver, config)
    if complete:
        time.sleep(0.5)  # a second result of the last requests would still be on its way
    receiver.stop()
    sent, matched, num_misplaced = _outcome(sender, receiver, config)
    summary = summarise(sent, matched, warmup_us=int(config.warmup_s * 1e6), num_misplaced=num_misplaced)
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
    try:
        run(Config.read(Path(sys.argv[1])))
    except ck.KafkaException as error:
        sys.exit(f"The broker does not answer the load generator: {error.args[0].str()}.")


if __name__ == "__main__":
    main()

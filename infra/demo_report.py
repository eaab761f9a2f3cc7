"""What the demonstration prints: figures, where each millisecond went, the ledger, the last events, what next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from schemas.memory import MemoryEvent
from streams.client.client import Answer
from streams.codec import Codec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.ledger import Report
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import PartitionWatch

NUM_EVENTS: Final = 6
STAGES: Final = (
    ("client to broker", "sent at its scheduled time, until the broker's timestamp"),
    ("edge", "decoded, checked, admitted and framed"),
    ("Router", "model version and lane chosen from memory"),
    ("executor", "queued, batched and run by ONNX Runtime"),
    ("Validator", "output gate and ledger"),
    ("broker to client", "result written and read"),
)

Timed = Sequence[tuple[int, Answer]]


def latency_ms(timed: Timed) -> NDArray[np.float64]:
    """Milliseconds from each request's scheduled time to its result."""
    return np.array([answer.read_us - scheduled for scheduled, answer in timed], np.float64) / 1000


def stage_ms(timed: Timed) -> NDArray[np.float64]:
    """Milliseconds per request (rows) in each of ``STAGES`` (columns). The broker's clock ticks in milliseconds."""
    instants = [
        (
            scheduled,
            answer.result.received_us,
            answer.result.timing.admitted_us,
            answer.result.timing.routed_us,
            answer.result.timing.executed_us,
            answer.result.timing.completed_us,
            answer.read_us,
        )
        for scheduled, answer in timed
    ]
    return np.diff(np.array(instants, np.float64).reshape(-1, len(STAGES) + 1), axis=1) / 1000


def stages(console: Console, timed: Timed) -> None:
    """Print where each millisecond went."""
    if not timed:
        return
    spent = stage_ms(timed)
    table = Table(title="Where each millisecond went", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    for name in ("mean ms", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    table.add_column("what happens there")
    for column, (name, what) in enumerate(STAGES):
        values = spent[:, column]
        table.add_row(name, *(f"{value:.2f}" for value in (values.mean(), *np.percentile(values, [50, 99]))), what)
    total = latency_ms(timed)
    table.add_row("in all", *(f"{value:.2f}" for value in (total.mean(), *np.percentile(total, [50, 99]))), "")
    console.print(table, "")


def show_figures(console: Console, results: dict[str, Any], start_s: float | None) -> None:
    """Print accuracy, throughput and percentiles."""
    table = Table(title="Digits", title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("requests", f"{results['requests']}, of them OK {results['ok']}")
    table.add_row("accuracy", f"{results['accuracy']:.4f} on images the training did not see")
    table.add_row("rate", f"{results['rate_rps']} results a second")
    table.add_row("latency", f"p50 {results['p50_ms']} ms, p99 {results['p99_ms']} ms, from the scheduled time")
    table.add_row("first result", f"after {results['first_result_s']} s, set-up {results['setup_s']} s of it")
    table.add_row("stack", "ran already" if start_s is None else f"started in {start_s:.1f} s")
    console.print("", table, "")


def show_ledger(console: Console, ledger: Report) -> None:
    """Print the ledger as one equation."""
    words = ("ok", "error", "rejected", "expired", "in_flight", "missing")
    equation = " + ".join(f"{ledger.total(word)} {word.replace('_', ' ')}" for word in words)
    console.print("Ledger", style="italic")
    console.print(f"{ledger.total('received')} received = {equation}")
    console.print(f"{ledger.total('duplicated')} duplicated, {ledger.total('reaped')} reaped", "")


async def read_last_events(connection: Connection) -> list[MemoryEvent]:
    """The last events of memory, oldest first."""
    codec = Codec(await read_schema_ids(connection))
    values: list[bytes | None] = []
    watch = PartitionWatch(
        connection, full_name("memory.events"), lambda batch: values.extend(record.value for record in batch)
    )
    try:
        await watch.start(30)
    finally:
        await watch.stop()
    events: list[MemoryEvent] = []
    for value in values[-NUM_EVENTS:]:
        try:
            events.append(codec.decode("memory.events", value))
        except PoisonRecordError:
            continue
    return events


def show_events(console: Console, events: Sequence[MemoryEvent]) -> None:
    """Print what was decided last, and why."""
    table = Table(title="Last memory events", title_justify="left", box=None, pad_edge=False)
    for name in ("sequence", "time", "by", "what", "key", "reason"):
        table.add_column(name, justify="right" if name == "sequence" else "left", no_wrap=name != "reason")
    for event in events:
        at = datetime.fromtimestamp(event.time_us / 1e6, UTC).strftime("%H:%M:%S")
        table.add_row(str(event.sequence), at, event.agent, event.kind, event.key, event.reason)
    console.print(table, "")


def next_steps(console: Console, path: Path, *, running: bool) -> None:
    """Print what to try next."""
    console.print(f"Figures: {path}", markup=False)
    if running:
        console.print("The stack is up. Try `isos status`, `isos models show digits`, `isos memory show`,")
        console.print("`isos ledger`, `isos tail inference.results`; `isos down` stops it.", markup=False)
    else:
        console.print("Try `make demo KEEP=1`, which leaves the stack up for `isos status` and `isos infer digits`,")
        console.print("`make bench` for more load, `make test` for the faults it survives.", markup=False)

"""The main job, once: a classifier of handwritten digits is registered, asked through Kafka, and every request counted.

Starts the local stack (or uses the one that runs), sends every held-out image once for accuracy, then 300 requests a
second for 10 s by the clock for latency. Writes ``results/demo.json``; exit code 7 when a request is not OK, is missing
or is answered twice, or when the accuracy is 0.95 or less. ``KEEP=1`` leaves the stack up.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra import digits
from infra.demo_report import latency_ms, next_steps, read_last_events, show_events, show_figures, show_ledger, stages
from infra.program import ended
from infra.running_stack import running_stack, write_result
from infra.settings import Settings, load_settings
from streams.client.client import Answer, Client, InferenceError, NoResultError
from streams.connection import Connection
from streams.ledger import Report

RATE: Final = 300.0
SECONDS: Final = 10.0
IN_FLIGHT: Final = 64
MIN_ACCURACY: Final = 0.95
FIRST_RESULT_S: Final = 60.0

Array = NDArray[Any]
Tell = Callable[[], None]


@dataclass(slots=True)
class Outcome:
    """What was seen: OK answers of the latency run with their scheduled time (us), counts over everything sent."""

    requests: int = 0
    ok: int = 0
    correct: int = 0
    images: int = 0
    first_result_s: float = 0.0
    rate_rps: float = 0.0
    timed: list[tuple[int, Answer]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Asker:
    """Sends images of ``digits`` one per request and counts what comes back."""

    def __init__(self, client: Client, outcome: Outcome) -> None:
        self._client = client
        self._outcome = outcome

    async def ask(self, image: Array) -> Answer | None:
        """Ask about one image (uint8 [64]); None, and a note of the reason, when the result is not OK."""
        self._outcome.requests += 1
        try:
            answer = await self._client.infer(digits.MODEL, {"image": image[np.newaxis]}, timeout_ms=20_000)
        except (InferenceError, NoResultError) as error:
            self._outcome.failures.append(str(error))
            return None
        self._outcome.ok += 1
        return answer

    async def first(self, image: Array) -> None:
        """Ask until the first OK result is there."""
        deadline = time.monotonic() + FIRST_RESULT_S
        while await self.ask(image) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    async def all_once(self, images: Array, labels: Array, tell: Tell) -> None:
        """Ask about every image, a bounded number at a time, and count the right answers."""
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(image: Array, label: int) -> None:
            async with slots:
                answer = await self.ask(image)
            if answer is not None:
                self._outcome.correct += int(answer.outputs["classes"][0, 0]) == label
            tell()

        await asyncio.gather(*(one(image, int(label)) for image, label in zip(images, labels, strict=True)))
        self._outcome.images = len(labels)

    async def by_the_clock(self, images: Array, tell: Tell) -> None:
        """Ask ``RATE`` times a second for ``SECONDS``, whether or not answers come."""
        start, start_us = time.perf_counter(), time.time_ns() // 1000
        total = int(RATE * SECONDS)

        async def one(number: int) -> None:
            answer = await self.ask(images[number % len(images)])
            if answer is not None:
                self._outcome.timed.append((start_us + int(number * 1e6 / RATE), answer))
            tell()

        tasks: list[Awaitable[None]] = []
        while len(tasks) < total:
            due = min(int((time.perf_counter() - start) * RATE) + 1, total)
            tasks += [asyncio.ensure_future(one(number)) for number in range(len(tasks), due)]
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        timed = self._outcome.timed
        if timed:
            elapsed_us = max(answer.read_us for _, answer in timed) - start_us
            self._outcome.rate_rps = round(len(timed) * 1e6 / elapsed_us, 1)


async def _register(settings: Settings, files: digits.Digits) -> None:
    from executors.manifest import read_manifest
    from executors.model_store import ModelStore
    from infra.registration import Registrar, checked_version

    blob, manifest = files.model.read_bytes(), read_manifest(files.manifest.read_text(), files.manifest.name)
    facts, _ = await asyncio.to_thread(checked_version, blob, digits.MODEL, digits.VERSION, manifest)
    async with Registrar(Connection(settings.bootstrap), ModelStore(settings.data_dir)) as registrar:
        await registrar.register(blob, facts)


async def _run(settings: Settings, files: digits.Digits, started_at: float, console: Console) -> Outcome:
    outcome = Outcome()
    with console.status("registering the model"):
        await _register(settings, files)
    images, labels = files.read_heldout()
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    async with Client(settings.bootstrap) as client:
        asker = Asker(client, outcome)
        await asker.first(images[0])
        outcome.first_result_s = round(time.time() - started_at, 2)
        with bars:
            once = bars.add_task("every held-out image once", total=len(images))
            await asker.all_once(images, labels, lambda: bars.advance(once))
            clock = bars.add_task(f"{RATE:.0f} a second for {SECONDS:.0f} s", total=int(RATE * SECONDS))
            await asker.by_the_clock(images, lambda: bars.advance(clock))
    return outcome


def document(outcome: Outcome, ledger: Report, setup: dict[str, Any]) -> dict[str, Any]:
    """Results of the demonstration; latencies from the scheduled time, in milliseconds."""
    latency = latency_ms(outcome.timed)
    return {
        "requests": outcome.requests,
        "ok": outcome.ok,
        "accuracy": round(outcome.correct / outcome.images, 4) if outcome.images else 0.0,
        "rate_rps": outcome.rate_rps,
        "p50_ms": round(float(np.percentile(latency, 50)), 2) if len(latency) else None,
        "p99_ms": round(float(np.percentile(latency, 99)), 2) if len(latency) else None,
        "missing": ledger.total("missing") + ledger.total("in_flight"),
        "duplicated": ledger.total("duplicated"),
        "first_result_s": outcome.first_result_s,
        "setup_s": setup.get("setup_s", 0.0),
        "download_s": setup.get("download_s", 0.0),
    }


def verdict(results: dict[str, Any], ledger: Report) -> tuple[str, ...]:
    """What is wrong, in sentences; empty when the demonstration holds."""
    wrong = list(ledger.violations(drained=True))
    if results["ok"] != results["requests"] or not results["requests"]:
        wrong.append(f"{results['requests'] - results['ok']} of {results['requests']} requests did not end OK")
    if ledger.total("reaped"):
        wrong.append(f"{ledger.total('reaped')} requests were lost on the way and ended by the reaper")
    if results["accuracy"] <= MIN_ACCURACY:
        wrong.append(f"the accuracy is {results['accuracy']}, not above {MIN_ACCURACY}")
    return tuple(wrong)


def _setup_times(settings: Settings) -> dict[str, Any]:
    try:
        times = json.loads((settings.data_dir / "setup.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return times if isinstance(times, dict) else {}


def run(settings: Settings, *, keep: bool, started_at: float) -> int:
    """Run the demonstration and print what it saw; the exit code."""
    from infra.commands.ledger import audit

    console = Console(width=None if sys.stdout.isatty() else 110)
    with console.status("training the classifier"):
        files = digits.prepare(settings.tools_dir / "digits")
    with running_stack(settings, keep=keep) as start_s:
        outcome = asyncio.run(_run(settings, files, started_at, console))
        with console.status("counting every request and result"):
            ledger = audit(settings)
            events = asyncio.run(read_last_events(Connection(settings.bootstrap)))
        results = document(outcome, ledger, _setup_times(settings))
        path = write_result("demo", results)
        show_figures(console, results, start_s)
        stages(console, outcome.timed)
        show_ledger(console, ledger)
        show_events(console, events)
    wrong = verdict(results, ledger)
    _print_verdict(console, wrong, outcome.failures)
    next_steps(console, path, running=keep or start_s is None)
    return 7 if wrong else 0


def _print_verdict(console: Console, wrong: Sequence[str], failures: Sequence[str]) -> None:
    for sentence in (*failures[:3], *wrong):
        console.print(sentence, style="red", markup=False)
    if not wrong:
        console.print("Every request has exactly one result, and every result is OK.", style="green")


def main() -> int:
    """Read the environment and run."""
    started_at = float(os.environ.get("ISOS_STARTED_AT") or time.time())
    keep = os.environ.get("KEEP", "") not in ("", "0")
    return ended(lambda: run(load_settings(), keep=keep, started_at=started_at))


if __name__ == "__main__":
    sys.exit(main())

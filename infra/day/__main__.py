"""``make scenario-day``: a day of the control plane in a few minutes, on the real stack, told from the log.

A deployment that a person approves, ten times the load, drift and a roll-back, killed and frozen processes, while
requests flow all the time. Then the journals are decided once more, memory and audit log are verified, every request
is accounted for, and the timeline is printed from the log alone. Writes ``results/scenario-day.json``; exit code 7 when
something is missing. ``KEEP=1`` leaves the stack up.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from typing import Any, Final

import numpy as np
from rich.console import Console

from infra import digits
from infra.day.report import flow_figures, missing, show_figures, show_timeline
from infra.day.story import CHAPTERS, READER, Day, DayError
from infra.day.traffic import Flow, Traffic
from infra.program import ended
from infra.running_stack import running_stack, write_result
from infra.settings import Settings, StartError, load_settings
from infra.stack_state import is_running
from infra.timeline import Line
from streams.client.client import Client

CHECKS: Final = (
    ("replay", "--all", "--from-start"),
    ("memory", "verify"),
    ("audit", "verify"),
)
"""Commands that must end with 0 when the day is over."""
OTHER_POLICY: Final = {"policy": {"pool": "executors", "max_replicas": 2, "target_utilization_percent": 90}}
"""What the Scaler is asked about once more: would it have scaled otherwise?"""


def day_settings(settings: Settings) -> Settings:
    """Settings of the day: a stack of its own with room for executors, in production, that judges within seconds.

    Raises StartError when a stack runs in its folder.
    """
    folder = settings.data_dir / "day"
    settings = settings.model_copy(
        update={
            "data_dir": folder,
            "environment": "production",
            "executors": 1,
            "max_executors": 3,
            "slow_executors": 0,
            "statistics_s": 2.0,
            "drift_window_s": 30,
            "known_good_s": 20,
        }
    )
    if is_running(settings):
        raise StartError("A day is under way already, or its stack was kept; end it, or use another data directory.")
    shutil.rmtree(folder, ignore_errors=True)
    return settings


def flows(files: digits.Digits) -> tuple[Flow, Flow]:
    """The traffic of the day: held-out images, and rows of the heavy model."""
    images, _ = files.read_heldout()
    rows = np.random.default_rng(digits.SEED).standard_normal((256, 1, 16)).astype(np.float32)
    return (
        Flow(digits.MODEL, lambda number: {"image": images[number % len(images)][np.newaxis]}),
        Flow(READER, lambda number: {"x": rows[number % len(rows)]}),
    )


async def live(day: Day, console: Console) -> tuple[dict[str, float], str]:
    """Go through the chapters with traffic beside them: seconds of each, and why one was not reached, or nothing."""
    seconds: dict[str, float] = {}
    try:
        async with Client(day.settings.bootstrap) as client, Traffic(client, day.digits_flow, day.reader_flow):
            for number, (title, chapter) in enumerate(CHAPTERS, start=1):
                console.print(f"{number}. {title}", style="bold")
                begun = time.monotonic()
                await chapter(day)
                seconds[title] = round(time.monotonic() - begun, 1)
    except DayError as error:
        return seconds, f"{error}."
    return seconds, ""


async def checked(day: Day) -> tuple[str, ...]:
    """Run the checks of the log; what they say against it."""
    wrong: list[str] = []
    policy = day.folder / "other-policy.json"
    policy.write_text(json.dumps(OTHER_POLICY))
    backtest = ("backtest", "scaler", "--policy", str(policy), "--from-start", "--limit", "6")
    for arguments in (*CHECKS, backtest):
        try:
            day.tell((await day.isos(*arguments)).rstrip())
        except DayError as error:
            wrong.append(f"{error}.")
    return tuple(wrong)


def document(day: Day, chapters: dict[str, float], wrong: tuple[str, ...], lines: list[Line]) -> dict[str, Any]:
    """The day as one JSON document."""
    return {
        "scenario": "scenario-day",
        "traffic": {flow.model: flow_figures(flow) for flow in (day.digits_flow, day.reader_flow)},
        "chapters_s": chapters,
        "num_lines": len(lines),
        "wrong": list(wrong),
    }


def run(settings: Settings, *, keep: bool) -> int:
    """Live the day and print it; the exit code."""
    from infra.commands.ledger import audit

    console = Console(width=None if sys.stdout.isatty() else 200)
    begun = time.monotonic()
    files = digits.prepare(settings.tools_dir / "digits")
    settings = day_settings(settings)
    folder = settings.data_dir / "people"
    with running_stack(settings, keep=keep):
        folder.mkdir(parents=True, exist_ok=True)
        day = Day(settings, files, folder, lambda text: console.print(text, markup=False), *flows(files))
        chapters, broken = asyncio.run(live(day, console))
        console.print("The log is checked", style="bold")
        wrong = asyncio.run(checked(day))
        lines = asyncio.run(day.lines())
        ledger = audit(settings)
    wrong = (*filter(None, (broken,)), *wrong, *ledger.violations(drained=True))
    wrong += tuple(f"The timeline does not say that {name}." for name in missing(lines))
    for flow in (day.digits_flow, day.reader_flow):
        lost = flow.sent - flow.num_ok - flow.failed["overloaded"]  # refused at once, with a time to come again
        if lost:
            wrong += (f"{lost} of {flow.sent} requests to {flow.model} were neither answered with OK nor refused.",)
    show_timeline(console, lines)
    result = document(day, chapters, wrong, lines) | {"total_s": round(time.monotonic() - begun, 1)}
    show_figures(console, result["traffic"], chapters)
    for sentence in wrong:
        console.print(sentence, style="red", markup=False)
    if not wrong:
        console.print("Everything that had to happen did, and every request has its one answer.", style="green")
    console.print(f"{result['total_s']:.0f} s; figures: {write_result('scenario-day', result)}", markup=False)
    return 7 if wrong else 0


def main() -> int:
    """Read the environment and run."""
    return ended(lambda: run(load_settings(), keep=os.environ.get("KEEP", "") not in ("", "0")))


if __name__ == "__main__":
    sys.exit(main())

"""The chapters of the scripted day: what people do by command, and what the log must say before the next one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from infra import digits
from infra.child_environment import child_environment
from infra.day.traffic import Flow
from infra.settings import Settings
from infra.stack_state import read_state
from infra.timeline import Line, read_timeline
from streams.connection import Connection

READER: Final = "reader"
READER_MS: Final = 3.0
"""What a row of the heavy model takes, in ms of a core."""
BASE_RATE: Final = 20.0
DIGITS_RATE: Final = 60.0
STEP: Final = 10
NEXT: Final = "v1.1.0"
POLL_S: Final = 0.5
COMMAND_S: Final = 60.0

Says = Callable[[Sequence[Line]], bool]
Tell = Callable[[str], None]


class DayError(Exception):
    """The day went another way than it was written; ``str`` says where."""


@dataclass(slots=True)
class Day:
    """What the chapters share. ``begun_us``: only what is newer counts. ``tell`` prints a line for the reader."""

    settings: Settings
    files: digits.Digits
    folder: Path
    tell: Tell
    digits_flow: Flow
    reader_flow: Flow
    begun_us: int = field(default_factory=lambda: time.time_ns() // 1000)

    async def isos(self, *arguments: str, person: str = "", codes: tuple[int, ...] = (0,)) -> str:
        """Run a command as a user would, as a person with a key if one is named; what it printed.

        Raises DayError when its exit code is none of ``codes``, or when it does not end.
        """
        self.tell(f"$ isos {' '.join(arguments)}" + (f"   # as {person}" if person else ""))
        environment = child_environment(self.settings, os.environ)
        if person:
            environment["ISOS_REVIEW_KEY_FILE"] = str(self.key(person))
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.cli", *arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(child.communicate(), COMMAND_S)
        except TimeoutError:
            child.kill()
            raise DayError(f"isos {' '.join(arguments)} did not end within {COMMAND_S:.0f} s") from None
        if child.returncode not in codes:
            said = (err or out).decode(errors="replace").strip()
            raise DayError(f"isos {' '.join(arguments)} ended with {child.returncode}: {said[-600:]}")
        return out.decode()

    def key(self, person: str) -> Path:
        """File of a person's key."""
        return self.folder / f"{person}.key"

    async def until(self, what: str, says: Says, seconds: float) -> list[Line]:
        """Wait until the log of this day says something; raises DayError that names ``what``."""
        deadline = time.monotonic() + seconds
        while True:
            lines = await self.lines()
            if says(lines):
                return lines
            if time.monotonic() > deadline:
                raise DayError(f"{what}: the log does not say it after {seconds:.0f} s")
            await asyncio.sleep(POLL_S)

    async def lines(self) -> list[Line]:
        """The day's lines so far."""
        found = await read_timeline(Connection(self.settings.bootstrap))
        return [line for line in found if line.time_us >= self.begun_us]

    def pid(self, process: str) -> int:
        """Process id of a running process of the stack."""
        for each in read_state(self.settings).get("processes", []):
            if each["name"] == process and each["pid"]:
                return int(each["pid"])
        raise DayError(f"{process} does not run")


def said(lines: Sequence[Line], what: str, subject: str = "", after_us: int = 0) -> list[Line]:
    """Lines that begin with ``what`` and have ``subject`` in theirs, from a time on."""
    return [
        line for line in lines if line.what.startswith(what) and subject in line.subject and line.time_us >= after_us
    ]


async def people(day: Day) -> None:
    """Two people get keys; the second one's is vouched for by the first."""
    await day.isos("reviews", "keygen", "--name", "ana", person="ana")
    await asyncio.gather(
        day.isos("reviews", "keygen", "--name", "ben", person="ben"),
        approve(day, "RegisterSigner signer/ben", "ana", "I know Ben"),
    )
    await day.until("Ben's key", lambda lines: bool(said(lines, "SignerRegistered", "signer/ben")), 20)


async def approve(day: Day, subject: str, person: str, reason: str) -> None:
    """Wait for the review of ``subject`` that is open, and approve it as ``person``."""

    def waiting(lines: Sequence[Line]) -> list[Line]:
        closed = {line.subject for line in lines if line.what.startswith("review ")}
        return [line for line in said(lines, "asks for a review", subject) if line.reason not in closed]

    lines = await day.until(f"the review of {subject}", lambda lines: bool(waiting(lines)), 20)
    await day.isos("reviews", "approve", waiting(lines)[-1].reason, "--reason", reason, person=person)


async def first_version(day: Day) -> None:
    """A classifier with a golden set and a reference, and a heavy model; the first version serves at once."""
    files = day.files
    await register(day, files.model, digits.VERSION)
    await day.isos("models", "golden", digits.MODEL, "--data", str(golden_file(day)), "--min-accuracy", "0.95")
    await day.isos("models", "reference", digits.MODEL, digits.VERSION, "--data", str(files.heldout))
    await register_reader(day)
    day.digits_flow.rate, day.reader_flow.rate = DIGITS_RATE, BASE_RATE


async def register(day: Day, file: Path, version: str) -> None:
    """A version of the classifier from a file."""
    named = ("--name", digits.MODEL, "--version", version, "--manifest", str(day.files.manifest))
    await day.isos("models", "register", str(file), *named)


def golden_file(day: Day) -> Path:
    """The first 300 held-out images with their labels."""
    images, labels = day.files.read_heldout()
    path = day.folder / "golden.npz"
    np.savez(path, image=images[:300], labels=labels[:300])
    return path


async def register_reader(day: Day) -> None:
    """A model whose rows take ``READER_MS`` of a core."""
    from executors.model_store import ModelStore
    from infra.bench.models import slow
    from infra.registration import Registrar

    model = await asyncio.to_thread(slow, READER, READER_MS)
    connection = Connection(day.settings.bootstrap)
    async with Registrar(connection, ModelStore(day.settings.data_dir)) as registrar:
        await registrar.register(model.blob, model.facts)


async def next_version(day: Day) -> None:
    """A second version is registered; Ana asks for it to serve, Ben approves."""
    blob, _, _ = await asyncio.to_thread(digits.train, digits.SEED + 1)
    file = day.folder / "digits-next.onnx"
    file.write_bytes(blob)
    await register(day, file, NEXT)
    await day.isos("models", "reference", digits.MODEL, NEXT, "--data", str(day.files.heldout))
    await activate(day, NEXT, "ana", "ben", "golden set and figures look right")
    await day.until(
        "the new version's plan",
        lambda lines: any(NEXT in line.reason for line in said(lines, "PlanMadeEffective", "plan/digits")),
        30,
    )


async def activate(day: Day, version: str, author: str, approver: str, reason: str) -> None:
    """One person asks for a version to serve; the command waits until another has approved it."""
    await asyncio.gather(
        day.isos("models", "activate", digits.MODEL, version, person=author),
        approve(day, f"ActivateVersion active/{digits.MODEL}", approver, reason),
    )


async def ten_times(day: Day) -> None:
    """Ten times the load for the heavy model: executors are added, and taken away when it is over."""
    await day.isos(
        *("scaling", "set", "--min-replicas", "1", "--max-replicas", str(day.settings.max_executors)),
        *("--target-utilization", "50", "--upscale-delay-s", "2", "--downscale-delay-s", "10", "--cooldown-s", "5"),
    )
    day.tell(f"  {READER}: {BASE_RATE:.0f} -> {BASE_RATE * STEP:.0f} requests/s")
    since_us = time.time_ns() // 1000
    day.reader_flow.rate = BASE_RATE * STEP
    lines = await day.until(
        "more executors", lambda lines: bool(done(lines, since_us, lambda replicas: replicas > 1)), 60
    )
    raised_us = done(lines, since_us, lambda replicas: replicas > 1)[0].time_us
    await asyncio.sleep(12)  # what the larger pool carries is to be seen in the figures; the load itself is the point
    day.tell(f"  {READER}: back to {BASE_RATE:.0f} requests/s")
    day.reader_flow.rate = BASE_RATE
    await day.until(
        "fewer executors", lambda lines: bool(done(lines, raised_us + 1, lambda replicas: replicas == 1)), 90
    )


def done(lines: Sequence[Line], after_us: int, wanted: Callable[[int], bool]) -> list[Line]:
    """Confirmed scale steps after a time whose number of replicas is wanted."""
    found = [line for line in lines if line.who == "supervisor" and line.time_us >= after_us]
    return [line for line in found if ", done" in line.what and wanted(int(line.what.split()[0]))]


async def drift(day: Day) -> None:
    """The camera is turned and dirty: an alert, checks, and a person's decision to go back, which another approves."""
    await day.until(
        f"{NEXT} proves itself",
        lambda lines: any(NEXT in line.reason for line in said(lines, "VersionMarkedGood", "good/digits")),
        90,
    )
    images, _ = day.files.read_heldout()
    turned = digits.noisy(digits.rotated(images))
    day.tell("  digits: rotated and noisy images from now on")
    day.digits_flow.inputs = lambda number: {"image": turned[number % len(turned)][np.newaxis]}
    since_us = time.time_ns() // 1000
    await day.until("the drift alert", lambda lines: bool(said(lines, "alert: drift", "digits", since_us)), 60)
    await day.until("a failed check", lambda lines: bool(failed_checks(lines, since_us)), 60)
    await activate(day, digits.VERSION, "ben", "ana", "back until the camera is mended")
    await day.until(
        "the roll-back", lambda lines: bool(said(lines, "VersionRolledBack", "active/digits", since_us)), 20
    )
    day.tell("  digits: the camera is mended")
    day.digits_flow.inputs = lambda number: {"image": images[number % len(images)][np.newaxis]}
    await day.until(
        "the check of the version gone back to",
        lambda lines: bool(said(lines, "check serving", digits.VERSION, since_us)),
        60,
    )
    await day.until(
        "the end of the drift alert", lambda lines: bool(said(lines, "alert resolved: drift", "digits", since_us)), 90
    )


def failed_checks(lines: Sequence[Line], after_us: int) -> list[Line]:
    """Checks that failed after a time."""
    return [line for line in said(lines, "check ", after_us=after_us) if line.what.endswith("failed")]


async def killed_agent(day: Day) -> None:
    """The control agents are killed, and a Router freezes until its incident is open; both come back."""
    since_us = time.time_ns() // 1000
    day.tell("  kill -9 of the control agents")
    os.kill(day.pid("control"), signal.SIGKILL)
    frozen = day.pid("edge-0")
    day.tell("  an edge is frozen")
    os.kill(frozen, signal.SIGSTOP)
    try:
        await day.until(
            "the incident", lambda lines: bool(said(lines, "IncidentRaised", "process_silent/edge-0", since_us)), 60
        )
    finally:
        os.kill(frozen, signal.SIGCONT)
    day.tell("  it is woken")
    await day.until(
        "the end of the incident",
        lambda lines: bool(said(lines, "IncidentResolved", "process_silent/edge-0", since_us)),
        60,
    )


CHAPTERS: Final = (
    ("Two people who may approve", people),
    ("A first version, and traffic", first_version),
    ("A second version, approved", next_version),
    ("Ten times the load, and back", ten_times),
    ("Drift, checks, and a roll-back", drift),
    ("A killed agent, and an incident", killed_agent),
)

"""Deaths of fatal signals are held against the model that ran; those by a kill are not, and old ones are forgotten."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from executors.crash_log import DEATHS, FORGET_S, SLOT_BYTES, SLOTS, CrashLog
from tests.support.models import version_of

VERSION, BESIDE, INNOCENT = (("model", "v1.0.0"), ("beside", "v1.0.0"), ("innocent", "v1.0.0"))

DIES = """
import os, signal, sys, threading
from pathlib import Path
from executors.crash_log import CrashLog
log = CrashLog(Path(sys.argv[1]), sys.argv[3])
log.watch()
log.leave(log.enter(b"innocent v1.0.0\\n"))
def die():
    log.enter(b"model v1.0.0\\n")
    signal.raise_signal(getattr(signal, sys.argv[2]))
    threading.Event().wait()
def run_beside():
    log.enter(b"beside v1.0.0\\n")
    is_running.set()
    threading.Event().wait()
is_running = threading.Event()
threading.Thread(target=run_beside, daemon=True).start()
is_running.wait()
if sys.argv[4] == "thread":
    threading.Thread(target=die).start()
    threading.Event().wait()  # the report walks through all threads, and may stumble over one that runs
else:
    die()
"""


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every log that a test opens is closed behind it."""
    logs: list[CrashLog] = []
    begin = CrashLog.__init__

    def remember(log: CrashLog, *given: Any, **named: Any) -> None:
        begin(log, *given, **named)
        logs.append(log)

    monkeypatch.setattr(CrashLog, "__init__", remember)
    yield
    for log in logs:
        log.close()


def die(folder: Path, name: str, executor: str = "executor-0", where: str = "loop") -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(folder), name, executor, where], stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == -getattr(signal, name), done.stderr


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE"])
def test_a_version_whose_thread_died_is_suspect_and_one_beside_it_after_two_deaths(
    tmp_path: Path, name: str, where: str
) -> None:
    assert not CrashLog(tmp_path, "executor-0").is_suspect(VERSION)
    die(tmp_path, name, where=where)
    found = CrashLog(tmp_path, "executor-0")
    assert [found.is_suspect(each) for each in (VERSION, BESIDE, INNOCENT)] == [True, False, False]
    assert CrashLog(tmp_path, "executor-0").is_suspect(VERSION)  # a clean start changes nothing
    assert CrashLog(tmp_path, "executor-1").is_suspect(VERSION)  # it would be the next one
    die(tmp_path, name, where=where)
    found = CrashLog(tmp_path, "executor-0")
    assert [found.is_suspect(each) for each in (VERSION, BESIDE, INNOCENT)] == [True, True, False]


def test_deaths_of_two_executors_count_together_also_for_one_that_runs(tmp_path: Path) -> None:
    running = CrashLog(tmp_path, "executor-2")
    for name in ("executor-0", "executor-1"):
        CrashLog(tmp_path, name)
        die(tmp_path, "SIGABRT", name)
        running.renew()
        assert not running.is_suspect(BESIDE)  # its successor tells
        CrashLog(tmp_path, name)
        running.renew()
    assert running.is_suspect(BESIDE)
    assert not running.is_suspect(INNOCENT)


def test_without_a_word_of_the_thread_all_that_ran_count_once(tmp_path: Path) -> None:
    """Python died where it had no thread state to tell of."""
    for deaths in range(DEATHS):
        assert CrashLog(tmp_path, "executor-0").is_suspect(VERSION) is False, deaths
        log = CrashLog(tmp_path, "executor-0")
        log.enter(b"model v1.0.0\n")
        (tmp_path / "executor-0.fatal").write_text("Fatal Python error: Aborted\n\nStack (most recent call first):\n")
    assert CrashLog(tmp_path, "executor-0").is_suspect(VERSION)


def test_who_was_killed_holds_nothing_against_its_models(tmp_path: Path) -> None:
    for _ in range(DEATHS):
        die(tmp_path, "SIGKILL")
    assert not CrashLog(tmp_path, "executor-0").is_suspect(VERSION)


def test_deaths_are_forgotten(tmp_path: Path) -> None:
    for _ in range(DEATHS):
        die(tmp_path, "SIGABRT")
    assert CrashLog(tmp_path, "executor-0").is_suspect(VERSION)
    later = CrashLog(tmp_path, "executor-0", clock_s=lambda: 4e9 + FORGET_S)
    assert not later.is_suspect(VERSION)


@pytest.mark.parametrize("text", ["", "[1]", '{"model v1.0.0": 3}'])
def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "executor-0.crashes").write_text(text)
    assert not CrashLog(tmp_path, "executor-0").is_suspect(VERSION)


def test_a_guarded_session_is_noted_while_it_runs_and_only_then(tmp_path: Path) -> None:
    log = CrashLog(tmp_path, "executor-0")
    running = tmp_path / "executor-0.running"
    seen: list[bytes] = []

    class Plain:
        model = version_of(b"")
        provider = "CPU"
        reentrant = True
        profile: Any = None

        def run(self, inputs: Any) -> Any:
            seen.append(running.read_bytes())
            raise ZeroDivisionError

    guarded = log.guarded(Plain())
    for _ in range(2 * SLOTS):
        with pytest.raises(ZeroDivisionError):
            guarded.run({"x": np.zeros(1)})
    assert all(seen_.count(b"model v1.0.0\n") == 1 for seen_ in seen)
    assert not running.read_bytes()[::SLOT_BYTES].strip(b"\0")


def test_more_batches_than_slots_run_unnoted(tmp_path: Path) -> None:
    log = CrashLog(tmp_path, "executor-0")
    slots = [log.enter(b"a\n") for _ in range(SLOTS + 1)]
    assert (slots.count(-1), len(set(slots))) == (1, SLOTS + 1)
    for slot in slots:
        log.leave(slot)
    assert log.enter(b"b\n") >= 0

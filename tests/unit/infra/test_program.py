"""Exit codes and sentences of errors that reach the end of a program."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from infra import program
from infra.program import TerminatedError, ended, unwound_by_signals
from infra.settings import StartError
from streams.errors import FencedError, InvariantError, IsosError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StartError("There is no scenario x.", exit_code=2), 2, "There is no scenario x.\n"),
        (StartError("No Java is here."), 6, "No Java is here.\n"),
        (InvariantError("two plans for one model"), 1, "two plans for one model.\n"),
    ],
)
def test_a_known_error_is_one_sentence_and_its_code(
    error: IsosError, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert ended(work) == code
    assert capsys.readouterr() == ("", said)


def test_what_may_be_tried_again_is_6_and_names_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise FencedError("memory.events", 0)

    assert ended(work) == 6
    assert capsys.readouterr().err.endswith("has taken it over. `isos status` shows what runs.\n")


def test_ctrl_c_is_130_and_a_code_is_passed_on() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert ended(interrupted) == 130
    assert ended(lambda: 7) == 7


def test_a_defect_is_not_hidden() -> None:
    def work() -> int:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        ended(work)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_what_is_under_way(number: signal.Signals) -> None:
    unwound = []
    before = signal.signal(number, signal.SIG_DFL)  # under nohup one of them is ignored

    def work() -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            os.kill(os.getpid(), number)  # a second one does not cut it short
            unwound.append(number)
        return 0

    try:
        assert ended(work) == 128 + number
        assert unwound == [number]
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_handler_that_stands_is_kept() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        assert ended(lambda: os.kill(os.getpid(), signal.SIGTERM) or 3) == 3
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ended(lambda: os.kill(os.getpid(), signal.SIGHUP) or 3) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_gets_out_of_a_loop_whatever_task_runs() -> None:
    """A task that nobody awaits takes it, and the loop lets it out; other exceptions it would keep."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def background() -> None:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1_000):
            pass  # the handler runs between two steps of this task

    async def work() -> int:
        task = asyncio.create_task(background())
        await asyncio.sleep(60)
        return int(task.done())

    try:
        assert ended(lambda: asyncio.run(work())) == 143
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_later_signal_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    now_s = iter((0.0, 0.0, 9.0, 10.5, 10.5))
    monkeypatch.setattr(program.time, "monotonic", lambda: next(now_s))
    told = []
    try:
        with unwound_by_signals():
            for _ in range(3):
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                    told.append("kept")
                except TerminatedError as error:
                    told.append(str(error.code))
        assert told == ["143", "kept", "143"]
    finally:
        signal.signal(signal.SIGTERM, before)

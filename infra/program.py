"""How every program of ours ends: an exit code, and one sentence on stderr for an error that is known."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from streams.errors import IsosError, RetriableError

INTERRUPTED: Final = 130
TERMINATED: Final = 128
AGAIN_S: Final = 10.0
UNREACHABLE: Final = 6
FAILED: Final = 1


class TerminatedError(SystemExit):
    """SIGTERM or SIGHUP came: what is under way unwinds, and ends what it started.

    ``code``: 128 and the signal's number, as a shell tells it. A SystemExit, for those are what an event loop lets out
    of whatever task happens to run when the signal comes.
    """

    def __init__(self, number: int) -> None:
        super().__init__(TERMINATED + number)
        self.number = number


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise ``TerminatedError`` here; one that has a handler, or is ignored, keeps it.

    What comes within ``AGAIN_S`` of one is the same wish said twice (by a shell, and by its process group), and does
    not cut the unwinding short.
    """
    asked = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    numbers = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]
    last_s = -AGAIN_S

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= AGAIN_S:
            last_s = time.monotonic()
            raise TerminatedError(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def ended(work: Callable[[], int]) -> int:
    """Run ``work`` and give its exit code; an ``IsosError`` is said in one sentence.

    Ctrl-C is 130, SIGTERM 143, SIGHUP 129: ``work`` ends what it started before.
    """
    try:
        with unwound_by_signals():
            return work()
    except TerminatedError as error:
        return TERMINATED + error.number
    except IsosError as error:
        print(sentence(error), file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def exit_code(error: IsosError) -> int:
    """The error's own code; else 6 for what may be tried again (a server that is away), 1 for the rest."""
    return int(getattr(error, "exit_code", UNREACHABLE if isinstance(error, RetriableError) else FAILED))


def sentence(error: IsosError) -> str:
    """What a person reads; for what may be tried again, with the command that looks first."""
    text = str(error).removesuffix(".")
    return f"{text}. `isos status` shows what runs." if isinstance(error, RetriableError) else f"{text}."

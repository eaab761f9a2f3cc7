"""How every program of ours ends: an exit code, and one sentence on stderr for an error that is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from streams.errors import IsosError, RetriableError

INTERRUPTED: Final = 130
UNREACHABLE: Final = 6
FAILED: Final = 1


def ended(work: Callable[[], int]) -> int:
    """Run ``work`` and give its exit code; an ``IsosError`` is said in one sentence, Ctrl-C is 130."""
    try:
        return work()
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

"""Who a process acts for, and operations on a stack of this machine, which has no broker to tell yet or any more.

    with audited_here(settings, "stack.up"):
        ...

Imports nothing heavy, so that ``isos up`` and ``isos down`` are as quick as without.
"""

from __future__ import annotations

import contextlib
import getpass
import re
import shlex
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Final

from infra.audit_spool import spool
from infra.settings import Settings
from streams.audit_operation import DONE, FAILED, NO_FACTS, REFUSED, REFUSING, UNKNOWN, Actor, Facts, Operation

SOURCE: Final = "cli"
TIMED_OUT: Final = 5
_CREDENTIALS: Final = re.compile(r"(://)[^/@\s]+@")
_SECRET: Final = re.compile(r"(?i)((?:password|secret|token|webhook)[a-z_]*=)\S+")


def actor_of(settings: Settings, source: str = SOURCE) -> Actor:
    """Who this process acts for: the settings' user and change, else the account it runs under."""
    command = command_line(sys.argv[1:]) if source == SOURCE else ""
    return Actor(settings.user or _account(), source, settings.environment, settings.change_ticket, command)


def command_line(arguments: Sequence[str]) -> str:
    """The command as it was typed, without passwords in addresses and values whose name says that they are secret."""
    hidden = [_SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", each)) for each in arguments]
    return shlex.join(["isos", *hidden])


def begun(actor: Actor, name: str, facts: Facts = NO_FACTS) -> Operation:
    """An operation that begins now."""
    return Operation(actor, name, uuid.uuid4().hex, now_us(), facts)


@contextlib.contextmanager
def audited_here(settings: Settings, name: str, facts: Facts = NO_FACTS) -> Iterator[Operation]:
    """Around an operation on the stack of this data directory; its Orchestrator records it when it runs next."""
    operation = begun(actor_of(settings), name, facts)
    with contextlib.suppress(OSError):  # what is done says itself that the folder cannot be written
        spool(settings, operation.before())
    try:
        yield operation
    except BaseException as error:  # noted, never kept
        ends_by(operation, error)
        raise
    finally:
        with contextlib.suppress(OSError):
            spool(settings, operation.after(now_us()))


def ends_by(operation: Operation, error: BaseException) -> None:
    """Note how a command ended by its error, or by the exit code with which it left (``typer.Exit``)."""
    if type(error).__name__ != "Exit":
        operation.ends_by(error)
        return
    code = getattr(error, "exit_code", 1)
    outcome = {0: DONE, TIMED_OUT: UNKNOWN, **dict.fromkeys(REFUSING, REFUSED)}.get(code, FAILED)
    operation.ends(outcome, "" if outcome == DONE else f"exit code {code}; the command printed why")


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, in a container say
        return "unknown"

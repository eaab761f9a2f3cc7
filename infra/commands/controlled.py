"""How commands that change memory run: with a connection to it; what can go wrong is one sentence and an exit code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import typer

from infra.commands.output import broker_answers

if TYPE_CHECKING:
    from infra.memory_control import MemoryControl
    from infra.settings import Settings

_T = TypeVar("_T")
_C = TypeVar("_C", bound="MemoryControl")


def controlled(settings: Settings, kind: type[_C], work: Callable[[_C], Awaitable[_T]]) -> _T:
    """What ``work`` gives with a connection of a ``kind``."""
    from infra.audit_trail import CommandAudit
    from infra.signatory import Signatory
    from streams.connection import Connection

    async def run() -> _T:
        who, audit = Signatory.of(settings), CommandAudit(settings)
        async with kind(Connection(settings.bootstrap), signatory=who, audit=audit) as control:
            return await work(control)

    with answered():
        return asyncio.run(run())


async def review_of(change: Awaitable[object]) -> str | None:
    """The review that a change waits for, said on stderr, or None once it is made.

    Raises ReviewWaitsError where waiting is a failure by its exit code.
    """
    from infra.signatory import ReviewWaitsError

    try:
        await change
    except ReviewWaitsError as waiting:
        if waiting.exit_code:
            raise
        typer.echo(f"{waiting}.", err=True)
        return waiting.review.request.review_id
    return None


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """End with exit code 5 where the broker or the Orchestrator does not answer in time."""
    from streams.watch import WatchTimeoutError

    with broker_answers():
        try:
            yield
        except WatchTimeoutError as error:
            typer.echo(f"{error}. `isos status` shows which process is missing; the command may be repeated.", err=True)
            raise typer.Exit(5) from None

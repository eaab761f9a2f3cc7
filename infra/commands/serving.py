"""``isos serving``: what serves a model where its version cannot, tries, hedging, and breakers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from infra.serving_control import ServingControl
    from schemas.serving import ServingPolicy
    from streams.memory_view import MemoryView

app = new_app(has_verbs=True)

ModelArgument = Annotated[str, typer.Argument(help="Name of a registered model.")]
_T = TypeVar("_T")


@app.command(epilog=examples("isos serving show digits", "isos serving show digits --output json"))
def show(ctx: typer.Context, model: ModelArgument, output: OutputOption = Output.TABLE) -> None:
    """Show what serves a model, and which of its versions' breakers are not closed.

    Exit code 3 for an unknown model.
    """
    from infra.serving_control import standing

    async def run(control: ServingControl) -> tuple[ServingPolicy, MemoryView]:
        return standing(control.view, model), control.view

    policy, view = controlled(ctx, run)
    row = policy_row(policy, view)
    breakers = breaker_rows(view, model)
    write([{**row, "fallbacks": ", ".join(policy.fallbacks) or None}], output, {**row, "open_breakers": breakers})
    if output is Output.TABLE:
        for each in breakers:
            when = f", for {each['seconds_left']} s more" if each["state"] == "open" else ""
            typer.echo(f"breaker of {each['version']}: {each['state'].replace('_', ' ')}{when}: {each['reason']}")


@app.command(
    "set",
    epilog=examples(
        "isos serving set digits --fallback v1.0.0",
        "isos serving set digits --max-attempts 3 --hedge",
        "isos serving set digits --no-fallback --no-breaker",
    ),
)
def set_(
    ctx: typer.Context,
    model: ModelArgument,
    fallback: Annotated[
        list[str] | None,
        typer.Option(help="A version that serves where the active one cannot; repeat it, first choice first."),
    ] = None,
    no_fallback: Annotated[bool, typer.Option("--no-fallback", help="No version stands in.")] = False,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, max=5, help="Tries of a request over the whole path; 1 = no second one.")
    ] = None,
    hedge: Annotated[
        bool | None, typer.Option("--hedge/--no-hedge", help="Give requests that take long to another lane, too.")
    ] = None,
    breaker: Annotated[
        bool | None, typer.Option("--breaker/--no-breaker", help="Keep a version that fails its requests from them.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named and leave the rest.

    Fallbacks must take the same inputs as the active version. Exit code 3 for an unknown model or version, 4 when the
    Orchestrator refuses, 5 when it does not answer in time.
    """
    from dataclasses import replace

    given = {"max_attempts": max_attempts, "hedge": hedge, "breaker": breaker}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if fallback and no_fallback:
        raise typer.BadParameter("give either --fallback VERSION or --no-fallback", param_hint="--fallback")
    if fallback or no_fallback:
        changes["fallbacks"] = tuple(fallback or ())
    if not changes:
        raise typer.BadParameter("say what to change; `isos serving show MODEL` shows what stands", param_hint="set")

    async def run(control: ServingControl) -> tuple[ServingPolicy, MemoryView]:
        policy = await control.set_policy(model, lambda now: replace(now, **changes))
        return policy, control.view

    policy, view = controlled(ctx, run)
    row = policy_row(policy, view)
    write([{**row, "fallbacks": ", ".join(policy.fallbacks) or None}], output, row)


def policy_row(policy: ServingPolicy, view: MemoryView) -> dict[str, Any]:
    """A policy beside the version that is active."""
    from streams.memory_view import active_version

    row = asdict(policy)
    return {"model": row.pop("model"), "active_version": active_version(view, policy.model), **row} | {
        "fallbacks": list(policy.fallbacks)
    }


def breaker_rows(view: MemoryView, model: str) -> list[dict[str, Any]]:
    """The breakers of a model that are not closed, with the seconds that an open one stays so."""
    from streams.memory_view import breakers

    now_us = time.time_ns() // 1000
    return [
        {
            "version": version, "state": each.state, "reason": each.reason, "since_us": each.since_us,
            "seconds_left": max(0, each.until_us - now_us) // 1_000_000 if each.state == "open" else 0,
        }
        for version, each in sorted(breakers(view, model).items())
    ]  # fmt: skip


def controlled(ctx: typer.Context, work: Callable[[ServingControl], Awaitable[_T]]) -> _T:
    """What ``work`` gives with a connection to memory; what can go wrong is one sentence and an exit code."""
    from infra.serving_control import ServingControl
    from streams.connection import Connection
    from streams.watch import WatchTimeoutError

    settings = settings_of(ctx)

    async def run() -> _T:
        async with ServingControl(Connection(settings.bootstrap)) as control:
            return await work(control)

    with broker_answers():
        try:
            return asyncio.run(run())
        except WatchTimeoutError as error:
            typer.echo(f"{error}. `isos status` shows which process is missing; the command may be repeated.", err=True)
            raise typer.Exit(5) from None

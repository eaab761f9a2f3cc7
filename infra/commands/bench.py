"""``isos bench``: throughput and latency under open-loop load."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.commands.output import examples, new_app, settings_of

app = new_app()


@app.command(epilog=examples("isos bench smoke", "isos --set executors=2 bench headline", "isos bench client"))
def bench(
    ctx: typer.Context,
    scenario: Annotated[str, typer.Argument(help="headline, smoke or client.")] = "headline",
) -> None:
    """Start a stack, load it, write results/SCENARIO.json. Exit code 7 when a request is missing or answered twice."""
    from infra.bench.run import run_named

    raise typer.Exit(run_named(scenario, settings_of(ctx)))

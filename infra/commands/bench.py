"""``isos bench``: throughput and latency under open-loop load."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.commands.output import examples, new_app, settings_of

app = new_app()


@app.command(
    epilog=examples(
        "isos bench smoke",
        "isos bench headline --repeat 3",
        "isos --set executors=2 bench capacity",
        "isos bench client",
        "isos bench scaling --param row_ms=10 --param base_rps=9",
    )
)
def bench(
    ctx: typer.Context,
    scenario: Annotated[
        str,
        typer.Argument(
            help="smoke, headline, tenfold, capacity, step, overload, growth, payload, images, priority, isolation, "
            "garbage, cache, scaling, idle or client."
        ),
    ] = "headline",
    repeat: Annotated[int, typer.Option(min=1, max=20, help="Runs; the median one is reported.")] = 1,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="A number of the scenario: row_ms and base_rps of scaling."),
    ] = None,
) -> None:
    """Start a stack, load it, write results/SCENARIO.json and the plots in results/index.html.

    Exit code 7 when a request is missing, answered twice, or (where the scenario offers no more than can be carried)
    did not end OK.
    """
    from infra.bench.run import run_named

    raise typer.Exit(run_named(scenario, settings_of(ctx), repeat, param or ()))

"""``isos demo``: the main job, once."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from infra.commands.output import examples, new_app, settings_of

app = new_app()


@app.command(epilog=examples("isos demo", "isos demo --keep"))
def demo(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", envvar="KEEP", help="Leave the stack up afterwards.")] = False,
) -> None:
    """Register a classifier of digits, ask it through Kafka, count every request. Exit code 7 when one is amiss."""
    from infra.demo import run

    started_at = float(os.environ.get("ISOS_STARTED_AT") or time.time())
    raise typer.Exit(run(settings_of(ctx), keep=keep, started_at=started_at))

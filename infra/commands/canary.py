"""``isos models canary`` and the share of ``isos models activate --weight``: a version beside the active one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.controlled import controlled, review_of
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from infra.canary_control import CanaryControl, Split

EPILOG = examples(
    "isos models canary digits",
    "isos models activate digits v2.0.0 --weight 5",
    "isos models activate digits v2.0.0 --weight 0",
    "isos models canary digits --output json",
)


def canary(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show which versions serve a model, and what share of its requests each one gets.

    `isos models activate MODEL VERSION --weight PERCENT` starts a canary, changes its share, or takes it back. Exit
    code 3 for an unknown model.
    """
    from infra.canary_control import CanaryControl, split_of

    async def run(control: CanaryControl) -> tuple[Split, int]:
        return split_of(control.view, name), control.view.sequence

    split, sequence = controlled(settings_of(ctx), CanaryControl, run)
    write(split.rows(), output, split.document(sequence))
    if output is Output.TABLE and split.waits:
        typer.echo("The canary waits until executors have loaded it and a plan gives it its share.", err=True)


def set_share(ctx: typer.Context, name: str, version: str, weight: int, output: Output, *, wait: bool) -> None:
    """Give a version a share of a model's requests beside the active one; 0 takes it back."""
    from infra.canary_control import CanaryControl, split_of
    from schemas.canary import Canary

    async def run(control: CanaryControl) -> tuple[Split, int, str | None]:
        review = await review_of(control.set_share(Canary(name, version, weight), wait_for_plan=wait))
        return split_of(control.view, name), control.view.sequence, review

    split, sequence, review = controlled(settings_of(ctx), CanaryControl, run)
    if output is Output.TABLE:
        shares = ", ".join(f"{version} {percent} %" for version, percent in split.shares.items())
        typer.echo(f"{name} is served by {shares or 'nothing yet'} (memory {sequence}).")
        return
    document = {**split.document(sequence), "waits_for_review": review}
    write([document], output, document)

"""``isos models activate``: which version of a model serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.canary import set_share
from infra.commands.controlled import controlled, review_of
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from infra.serving_control import ServingControl

ACTIVATE_EPILOG = examples(
    "isos models activate digits v2.0.0",
    "isos models activate digits v2.0.0 --rehearse",
    "isos models activate digits v2.0.0 --weight 5",
    "isos models activate digits v1.0.0 --no-wait",
)

ALL = 100

NameArgument = Annotated[str, typer.Argument(help="Model name.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the plan serves it.")]


def activate(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[str, typer.Argument(help="A registered version, like v2.0.0.")],
    wait: WaitOption = True,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Check the version first; where a check does not pass, that is all.")
    ] = False,
    weight: Annotated[
        int,
        typer.Option(min=0, max=100, help="Percent of the requests; below 100 as a canary beside the active version."),
    ] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have another registered version serve a model; a lower one than now is noted as a roll-back.

    With --weight it is a canary: it serves that share, always the same keys, and the active version the rest. The same
    with another weight changes the share, 0 takes it back. An SLO that it burns, an open breaker or a failed check
    takes it back without a person. `isos models canary` shows it.

    Outside a sandbox it waits for the approval of a second person, whom it names a command for; with --no-wait the
    review's id is all that is said. Exit code 3 for an unknown model or version, 4 when the Orchestrator or a person
    refuses, 5 when nobody answers, or approves, in time: the review stays open; with --rehearse 7 when a check failed,
    1 when one could not be run.
    """
    from infra.commands.validations import rehearsal

    if rehearse:
        rehearsal(ctx, name, version)
    if weight < ALL:
        set_share(ctx, name, version, weight, output, wait=wait)
    else:
        _serve(ctx, name, version, output, wait=wait)


def _serve(ctx: typer.Context, name: str, version: str, output: Output, *, wait: bool) -> None:
    from infra.serving_control import ServingControl
    from streams.memory_view import active_version

    async def run(control: ServingControl) -> tuple[str | None, int, str | None]:
        review = await review_of(control.activate(name, version, wait_for_plan=wait))
        return active_version(control.view, name), control.view.sequence, review

    active, sequence, review = controlled(settings_of(ctx), ServingControl, run)
    if output is Output.TABLE:
        typer.echo(f"{name} is served by {active} (memory {sequence}).")
        return
    document = {"model": name, "active_version": active, "memory_sequence": sequence, "waits_for_review": review}
    write([document], output, document)

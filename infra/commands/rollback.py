"""``isos models rollback``: back to what proved itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.controlled import controlled, review_of
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from infra.rollback_control import RollbackControl

EPILOG = examples("isos models rollback digits", "isos models rollback digits --no-wait --output json")


def rollback(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the plan serves it.")] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Go back to the configuration that proved itself last, other than the one that serves now.

    A version is served as it was then: fallbacks, tries, hedging, breakers, cache; what the model promises (its SLO)
    stays. Where the version that serves proved itself, but is served otherwise since, it stays and only that is put
    back. `isos models activate` goes to any version and leaves the rest. The same approvals and exit codes; 3 also
    where nothing else proved itself.
    """
    from infra.rollback_control import RollbackControl, restored_by, target_of
    from streams.memory_view import active_version

    async def run(control: RollbackControl) -> tuple[tuple[str, ...], str | None, int, str | None]:
        restored = restored_by(control.view, name, target_of(control.view, name))
        review = await review_of(control.go_back(name, wait_for_plan=wait))
        return restored, active_version(control.view, name), control.view.sequence, review

    restored, active, sequence, review = controlled(settings_of(ctx), RollbackControl, run)
    if output is Output.TABLE:
        back = f"; put back: {', '.join(restored)}" if review is None else ""
        typer.echo(f"{name} is served by {active} (memory {sequence}){back}.")
        return
    document = {
        "model": name, "active_version": active, "restored": list(restored), "memory_sequence": sequence,
        "waits_for_review": review,
    }  # fmt: skip
    write([document], output, document)

"""``isos environment``: what this environment is, and which commands wait in it for a second person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from infra.review_control import ReviewControl
    from schemas.environment import Environment

app = new_app(has_verbs=True)


@app.command(epilog=examples("isos environment show", "isos environment show --output json"))
def show(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show what memory says of the environment."""
    from infra.review_control import ReviewControl
    from streams.review_view import environment

    async def run(control: ReviewControl) -> Environment | None:
        return environment(control.view)

    found = controlled(settings_of(ctx), ReviewControl, run)
    if found is None:
        typer.echo(
            "Nobody declared an environment, and nothing waits for an approval. `isos up` declares one.", err=True
        )
        raise typer.Exit(3)
    _write(found, output)


@app.command(
    "set",
    epilog=examples(
        "isos environment set production",
        "isos environment set production --gate ActivateVersion --gate SetServingPolicy --review-deadline-s 3600",
        "isos environment set sandbox --people",
    ),
)
def set_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="sandbox, staging or production.")],
    gate: Annotated[
        list[str] | None, typer.Option(help="A command that waits for an approval; repeat it. Default: as it stands.")
    ] = None,
    review_deadline_s: Annotated[
        int | None, typer.Option(min=1, max=2_592_000, help="Seconds after which what nobody approved is refused.")
    ] = None,
    people: Annotated[
        bool, typer.Option("--people", help="People approve in a sandbox, too, not its development policy.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change the environment. Outside a sandbox this waits for the approval of a second person itself.

    Exit code 4 when it is refused, 5 when nobody answers, or approves, in time.
    """
    from infra.review_control import ReviewControl
    from schemas.environment import Environment
    from streams.review_view import environment

    if name not in ("sandbox", "staging", "production"):
        raise typer.BadParameter(f"{name!r} is none of sandbox, staging and production", param_hint="NAME")
    known: Literal["sandbox", "staging", "production"] = name  # type: ignore[assignment]  # looked at above

    async def run(control: ReviewControl) -> Environment:
        now = environment(control.view) or Environment()
        wanted = Environment(
            known,
            tuple(dict.fromkeys(gate)) if gate else now.gated,
            development_policy=known == "sandbox" and not people,
            review_s=review_deadline_s or now.review_s,
        )
        return await control.set_environment(wanted)

    _write(controlled(settings_of(ctx), ReviewControl, run), output)


def environment_row(found: Environment) -> dict[str, Any]:
    """The environment as a row."""
    return {
        "environment": found.name,
        "approved_by": "development policy" if found.development_policy else "people",
        "gated": list(found.gated),
        "review_deadline_s": found.review_s,
    }


def _write(found: Environment, output: Output) -> None:
    row = environment_row(found)
    write([{**row, "gated": ", ".join(found.gated) or None}], output, row)

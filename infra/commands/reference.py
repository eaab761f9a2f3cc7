"""``isos models reference``: what a version's rows look like, made of a file, shown or removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from infra.reference_control import ReferenceControl
    from schemas.reference import Reference

EPILOG = examples(
    "isos models reference digits --data heldout.npz",
    "isos models reference digits v1.0.0 --output json",
    "isos models reference digits v1.0.0 --remove",
)


def reference(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[str, typer.Argument(help="A registered version; the active one where none is given.")] = "",
    data: Annotated[
        Path | None, typer.Option(help="Rows as they should be: .npz, .jsonl or .csv; at most 50,000 are taken.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Compare the version's rows with nothing any more.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set, show or remove the rows that a version's requests are compared with.

    The version runs for the rows of the file here; what is kept is how values are distributed, not the rows. From then
    on executors count the rows that they run, and the Monitor raises `drift` and `data_quality` alerts.

    Exit code 2 for a file that does not fit, 3 for an unknown model or version or where there is no reference, 4 when
    the Orchestrator refuses, 5 when it does not answer in time.
    """
    if data is not None and remove:
        raise typer.BadParameter("give either --data FILE or --remove", param_hint="--data")
    settings = settings_of(ctx)

    async def run(control: ReferenceControl) -> Reference | None:
        from executors.model_store import ModelStore
        from infra.reference_control import facts_of
        from streams.references import reference as standing

        if data is not None:
            return await control.set_reference(name, version, data, ModelStore(settings.data_dir))
        if remove:
            await control.remove_reference(name, version)
            return None
        return standing(control.view, name, facts_of(control.view, name, version).version)

    from infra.reference_control import ReferenceControl

    try:
        found = controlled(settings, ReferenceControl, run)
    except OSError as error:
        typer.echo(f"{data} cannot be read: {error.strerror}.", err=True)
        raise typer.Exit(3) from None
    if remove:
        typer.echo(f"{name} has no reference any more.", err=True)
        return
    if found is None:
        typer.echo(f"{name} has no reference. `isos models reference {name} --data FILE` makes one.", err=True)
        raise typer.Exit(3)
    rows = measure_rows(found)
    if output is Output.TABLE:
        typer.echo(
            f"{found.model} {found.version}: {len(rows)} measures of {found.num_rows:,} rows of {found.source}",
            err=True,
        )
    document = {"model": found.model, "version": found.version, "num_rows": found.num_rows, "source": found.source}
    write(rows, output, {**document, "measures": rows})


def measure_rows(found: Reference) -> list[dict[str, Any]]:
    """A row per measure, as people read it."""
    return [
        {
            "measure": measure.name, "of": "output" if tensor.is_output else "input", "bins": len(measure.counts),
            "low": measure.low, "high": measure.high, "mean": measure.mean, "deviation": measure.deviation,
            "missing": measure.num_missing,
        }
        for tensor in found.tensors
        for measure in tensor.measures
    ]  # fmt: skip

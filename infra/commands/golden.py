"""``isos models golden``: rows with known answers that the versions of a model are checked by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, examples, settings_of, write

if TYPE_CHECKING:
    from infra.validation_control import ValidationControl
    from schemas.check import GoldenSet
    from schemas.model import ModelVersion

EPILOG = examples(
    "isos models golden digits",
    "isos models golden digits --data heldout.npz --min-accuracy 0.95",
    "isos models golden digits --data heldout.jsonl --label-key digit --label-output classes",
    "isos models golden adder --data cases.jsonl --tolerance 1e-5",
)


def golden(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    data: Annotated[
        Path | None,
        typer.Option(help=".npz or .jsonl: the inputs by name, and labels or the outputs by name; 1 to 2,000 rows."),
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0.000001, max=1, help="Share of right rows; 0.95 for labels, 1 for outputs.")
    ] = None,
    label_key: Annotated[str, typer.Option(help="Key of the labels in the file.")] = "labels",
    label_output: Annotated[str, typer.Option(help="Output that labels are compared with; found out if empty.")] = "",
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="How far outputs may be from those in the file.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Note a model's golden set, or show the one that stands.

    It is stored beside the models and checked by requests of tenant isos-validation: on alerts, after a roll-back or
    another activation, and by `isos validations run`. Exit code 2 for a file that does not fit the active version's
    signature, 3 for an unknown model or file, or where none stands, 4 when the Orchestrator refuses, 5 when it does
    not answer in time.
    """
    from executors.model_store import ModelStore
    from infra.golden import GoldenDataError, read_golden
    from infra.validation_control import Aim, ValidationControl, facts_of, golden_of
    from streams.memory_view import golden_set

    settings = settings_of(ctx)

    async def stands(control: ValidationControl) -> tuple[ModelVersion, GoldenSet | None]:
        return facts_of(control.view, model), golden_set(control.view, model)

    facts, standing = controlled(settings, ValidationControl, stands)
    if data is None:
        if standing is None:
            typer.echo(f"{model} has no golden set. `isos models golden --help` says how it gets one.", err=True)
            raise typer.Exit(3)
        write([row_of(standing)], output, row_of(standing))
        return
    try:
        wanted, blob = golden_of(facts, read_golden(data, facts, label_key), Aim(min_accuracy, tolerance, label_output))
    except GoldenDataError as error:
        typer.echo(f"{data} is no golden set for {model} {facts.version}: {error}.", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"{data} cannot be read: {error.strerror or error}.", err=True)
        raise typer.Exit(3) from None

    async def change(control: ValidationControl) -> None:
        await control.set_golden(wanted, blob, ModelStore(settings.data_dir))

    controlled(settings, ValidationControl, change)
    write([row_of(wanted)], output, row_of(wanted))
    if output is Output.TABLE:
        typer.echo(f"`isos validations run {model}` checks the active version by it.", err=True)


def row_of(golden: GoldenSet) -> dict[str, Any]:
    """A golden set as people read it."""
    return {
        "model": golden.model,
        "rows": golden.num_rows,
        "bytes": golden.size_bytes,
        "kind": golden.kind,
        "output": golden.output or None,
        "min_accuracy": golden.min_accuracy_ppm / 1e6,
        "tolerance": golden.tolerance,
        "digest": golden.digest[:12],
    }

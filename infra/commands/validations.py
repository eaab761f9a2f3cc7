"""``isos validations``: what checks of model versions came to, and running them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from schemas.check import CHECKS

if TYPE_CHECKING:
    from infra.validation_control import ValidationControl
    from schemas.review import Validation

app = new_app(has_verbs=True)

COLUMNS = ("validation_id", "time", "model", "version", "check", "outcome", "samples", "message")
FAILED = 7
NOT_RUN = 1
REHEARSAL_S = 60.0


@app.command("list", epilog=examples("isos validations list", "isos validations list digits --failed --output jsonl"))
def list_(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Only those of this model.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, the newest.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List checks with their outcomes, the newest last."""
    found = [each for each in _read(ctx) if model in ("", each.model) and (not failed or outcome_of(each) == "failed")]
    rows = [row_of(each) for each in found[-last:]]
    if not rows and output is Output.TABLE:
        what = f"No check{f' of {model}' if model else ''}{' failed' if failed else ' was run'}"
        typer.echo(f"{what}. `isos validations run --help` says how one is run.", err=True)
        return
    write([_short(row) for row in rows] if output is Output.TABLE else rows, output)


@app.command(epilog=examples("isos validations show operator/3fe0a1b2c3d4/golden_set"))
def show(
    ctx: typer.Context,
    validation_id: Annotated[str, typer.Argument(help="Id of a check's run, as `isos validations list` shows it.")],
    output: OutputOption = Output.YAML,
) -> None:
    """Show one check with its evidence. Exit code 3 when there is none."""
    rows = [row_of(each) for each in _read(ctx) if each.validation_id == validation_id]
    if not rows:
        typer.echo(f"There is no check {validation_id}. `isos validations list` shows them.", err=True)
        raise typer.Exit(3)
    write(rows[-1:], output, rows[-1])


@app.command(
    epilog=examples(
        "isos validations run digits",
        "isos validations run digits --version v2.0.0",
        "isos validations run digits --check golden_set --check integrity --output json",
    )
)
def run(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    version: Annotated[str, typer.Option(help="A registered version, also one that serves nothing yet.")] = "",
    check: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CHECKS)}; may be repeated.")] = None,
    timeout_s: Annotated[float, typer.Option(min=5, max=600, help="How long the checks may take, s.")] = 60.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a version, the active one by default, and wait for the outcome: the rehearsal of a roll-out.

    Without --check: what can be run of it. Exit code 7 when a check failed, 1 when one could not be run, 3 for an
    unknown model or version, 5 when nobody answers in time.
    """
    checks = tuple(check or ())
    unknown = [each for each in checks if each not in CHECKS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(CHECKS)}", param_hint="--check")
    done = _outcomes(ctx, model, version, checks, timeout_s)
    rows = [row_of(each) for each in done]
    write([_short(row) for row in rows] if output is Output.TABLE else rows, output)
    _end(done)


def rehearsal(ctx: typer.Context, model: str, version: str) -> None:
    """Check a version before it is activated, each outcome a line on stderr; ends the command unless all passed."""
    done = _outcomes(ctx, model, version, (), REHEARSAL_S)
    for each in done:
        typer.echo(f"{each.check} {outcome_of(each).replace('_', ' ')}: {each.message}", err=True)
    _end(done)


def _outcomes(
    ctx: typer.Context, model: str, version: str, checks: tuple[str, ...], timeout_s: float
) -> list[Validation]:
    from infra.validation_control import ValidationControl, facts_of, requests_for, wanted_checks

    async def work(control: ValidationControl) -> list[Validation]:
        facts = facts_of(control.view, model, version)
        wanted = checks or wanted_checks(control.view, facts)
        reason = f"an operator asks for {facts.model} {facts.version}"
        return await control.run(requests_for(facts, wanted, reason, time.time_ns() // 1000, timeout_s), timeout_s)

    return controlled(settings_of(ctx), ValidationControl, work)


def _end(done: list[Validation]) -> None:
    outcomes = {outcome_of(each) for each in done}
    if outcomes != {"passed"}:
        raise typer.Exit(FAILED if "failed" in outcomes else NOT_RUN)


def outcome_of(validation: Validation) -> str:
    """How a check ended; an older release said only whether it passed."""
    return validation.outcome or ("passed" if validation.passed else "failed")


def row_of(validation: Validation) -> dict[str, Any]:
    """A check's outcome as a row of plain values."""
    import json

    row = asdict(validation)
    when = datetime.fromtimestamp(row.pop("time_us") / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    evidence, samples = row.pop("evidence"), row.pop("num_samples")
    causes = list(row.pop("causes"))
    return {
        "validation_id": row.pop("validation_id"), "time": when, **row, "outcome": outcome_of(validation),
        "samples": samples, "evidence": json.loads(evidence) if evidence else None, "causes": causes,
    }  # fmt: skip


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in COLUMNS}


def _read(ctx: typer.Context) -> list[Validation]:
    """Each once: after a restart an agent sends its last effects again."""
    from infra.log_reader import LogReader
    from streams.connection import Connection

    settings = settings_of(ctx)

    async def read() -> list[Validation]:
        reader = await LogReader.connect(Connection(settings.bootstrap))
        found = [each.record for each in await reader.read("control.validations")]
        return list({each.validation_id: each for each in found}.values())

    with broker_answers():
        return asyncio.run(read())

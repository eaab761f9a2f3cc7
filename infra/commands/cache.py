"""``isos cache``: which models' answers are cached, how often that helps, and warming it."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from infra.commands.controlled import controlled
from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import shown_progress

if TYPE_CHECKING:
    from infra.cache_control import CacheControl, CachedModel, Change
    from infra.settings import Settings
    from schemas.cache import CachePolicy
    from schemas.model import TensorSpec

app = new_app(has_verbs=True)

ModelArgument = Annotated[str, typer.Argument(help="Name of a registered model.")]
_T = TypeVar("_T")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command("list", epilog=examples("isos cache list", "isos cache list --output json"))
def list_models(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the models, whether their answers are cached, and how."""
    rows = [_row(each) for each in _models(settings_of(ctx))]
    if not rows and output is Output.TABLE:
        typer.echo("No model is registered. `isos models register --help` says how.", err=True)
        return
    write(rows, output)


@app.command(epilog=examples("isos cache enable digits", "isos cache enable digits --ttl 10m"))
def enable(
    ctx: typer.Context,
    model: ModelArgument,
    ttl: Annotated[str, typer.Option(help="How long an answer counts, like 90s, 10m, 1h; at most 7d.")] = "1h",
    output: OutputOption = Output.TABLE,
) -> None:
    """Have the answers of a model cached: equal inputs get the earlier answer, also those of another tenant.

    Versions whose manifest says `deterministic: false` never are. Exit code 3 for an unknown model, 4 when the
    Orchestrator refuses, 5 when it does not answer in time.
    """
    from dataclasses import replace

    seconds = _seconds(ttl)
    policy = _changed(ctx, model, lambda now: replace(now, enabled=True, epoch=max(1, now.epoch), ttl_s=seconds))
    _say(policy, output, f"Answers of {model} are cached for {ttl}.")


@app.command(epilog=examples("isos cache disable digits"))
def disable(ctx: typer.Context, model: ModelArgument, output: OutputOption = Output.TABLE) -> None:
    """Have a model's answers cached and looked up no more. Exit codes as for `enable`."""
    from dataclasses import replace

    policy = _changed(ctx, model, lambda now: replace(now, enabled=False))
    _say(policy, output, f"Answers of {model} are not cached.")


@app.command(epilog=examples("isos cache flush digits", "isos cache flush --all"))
def flush(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")] = "",
    all_models: Annotated[bool, typer.Option("--all", help="Every model whose answers are cached.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Never serve again what was cached for a model so far, by a new epoch in memory. Redis is not asked.

    Exit codes as for `enable`.
    """
    from dataclasses import replace

    from infra.cache_control import CacheControl

    if bool(model) == all_models:
        raise typer.BadParameter("give either a model or --all", param_hint="MODEL")

    async def run(control: CacheControl) -> list[CachePolicy]:
        from streams.memory_view import cached_models

        names = sorted(cached_models(control.view)) if all_models else [model]
        return [await control.change(name, lambda now: replace(now, epoch=now.epoch + 1)) for name in names]

    policies = controlled(settings_of(ctx), CacheControl, run)
    write([_policy_row(policy) for policy in policies], output)


@app.command(epilog=examples("isos cache stats", "isos cache stats digits --since 10m --output json"))
def stats(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a model; all of them without it.")] = "",
    since: Annotated[str, typer.Option(help="Over the last so long, like 30s, 10m.")] = "1m",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show hits and misses by model version as the Routers told them, and what Redis holds.

    Exit code 6 when the broker does not answer; a Redis that does not is shown as such.
    """
    settings, seconds = settings_of(ctx), _seconds(since)
    with broker_answers():
        report = asyncio.run(_stats(settings, model, seconds))
    write(report["models"], output, report)
    if output is Output.TABLE:
        shared = report["redis"]
        held = "Redis does not answer" if shared is None else f"{shared['answers']} answers, {shared['bytes']:,} bytes"
        wrong = f"; {report['forged']} values of others were met" if report["forged"] else ""
        typer.echo(f"in Redis: {held}{wrong}; {report['unanswered']} look-ups without an answer in time", err=True)


@app.command(
    epilog=examples(
        "isos cache warm digits --file inputs.jsonl",
        "isos cache warm digits --hottest 500",
        "isos cache warm digits --hottest 500 --version v2.0.0",
    )
)
def warm(
    ctx: typer.Context,
    model: ModelArgument,
    file: Annotated[
        Path | None,
        typer.Option(help=".jsonl, an input a line as for `isos infer --json`; .npy or .npz, by first axis."),
    ] = None,
    num_hottest: Annotated[
        int, typer.Option("--hottest", min=0, help="So many inputs, those that came most often.")
    ] = 0,
    last: Annotated[int, typer.Option(min=1, max=10_000_000, help="Of so many newest requests a partition.")] = 10_000,
    version: Annotated[str, typer.Option(help="Pin a version, like v1.0.0, also one that serves nothing yet.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Fill the cache by asking: each input becomes a request of the lowest priority.

    Exit code 1 when one did not end OK, 2 for a file that is none, 3 for an unknown model or file, 4 when the model
    is not cached.
    """
    from infra.cache_warming import hottest

    if (file is None) == (num_hottest == 0):
        raise typer.BadParameter("give either --file FILE or --hottest NUMBER", param_hint="--file")
    settings = settings_of(ctx)
    specs = _warmable(settings, model, version)
    if file is not None:
        inputs = _inputs(file, specs)
    else:
        from streams.connection import Connection

        with broker_answers():
            found = asyncio.run(hottest(Connection(settings.bootstrap), model, num_inputs=num_hottest, last=last))
        inputs = [arrays for _, arrays in found]
    with broker_answers():
        done = asyncio.run(_warm(settings, model, version or None, inputs))
    row = {
        "model": model, "inputs": len(inputs), "answered": done.num_answered, "already_cached": done.num_cached,
        "failed": done.num_failed,
    }  # fmt: skip
    write([row], output, row)
    if done.num_failed:
        typer.echo(f"The first that failed: {done.reason}", err=True)
        raise typer.Exit(1)


def _models(settings: Settings) -> tuple[CachedModel, ...]:
    from infra.cache_control import CacheControl, cached_model_list

    async def run(control: CacheControl) -> tuple[CachedModel, ...]:
        return cached_model_list(control.view)

    return controlled(settings, CacheControl, run)


def _changed(ctx: typer.Context, model: str, change: Change) -> CachePolicy:
    from infra.cache_control import CacheControl

    return controlled(settings_of(ctx), CacheControl, lambda control: control.change(model, change))


def _say(policy: CachePolicy, output: Output, sentence: str) -> None:
    if output is Output.TABLE:
        typer.echo(sentence)
    else:
        write([_policy_row(policy)], output, _policy_row(policy))


def _policy_row(policy: CachePolicy) -> dict[str, Any]:
    return {"model": policy.model, "cached": policy.enabled, "ttl_s": policy.ttl_s, "epoch": policy.epoch}


def _row(each: CachedModel) -> dict[str, Any]:
    return {**_policy_row(each.policy), "not_deterministic": ", ".join(each.not_deterministic) or None}


def _seconds(text: str) -> int:
    span = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text)
    if span is None:
        raise typer.BadParameter(f"{text!r} is no span like 90s, 10m, 1h", param_hint="--ttl or --since")
    return int(span[1]) * SECONDS[span[2]]


async def _stats(settings: Settings, model: str, seconds: int) -> dict[str, Any]:
    from infra.cache import open_cache
    from infra.cache_stats import cache_report
    from infra.log_reader import LogReader
    from streams.connection import Connection

    reader = await LogReader.connect(Connection(settings.bootstrap))
    windows = [each.record for each in await reader.read("control.telemetry", 20 * seconds)]
    async with open_cache(settings, local_bytes=0) as cache:
        held = await cache.held()
    return cache_report(windows, held, model, time.time_ns() // 1000 - seconds * 1_000_000)


def _warmable(settings: Settings, model: str, version: str) -> tuple[TensorSpec, ...]:
    """The signature of the version to warm; ends the command when its answers are not cached."""
    from infra.cache_control import CacheControl
    from streams.memory_view import active_version, cache_scope, model_version

    async def run(control: CacheControl) -> Any:
        return control.view

    view = controlled(settings, CacheControl, run)
    wanted = version or active_version(view, model)
    facts = model_version(view, model, wanted) if wanted else None
    if facts is None:
        typer.echo(f"No model {model} {version} is registered. `isos models list` shows what is.", err=True)
        raise typer.Exit(3)
    if cache_scope(view, model, facts.version) is None:
        reason = (
            "its manifest says that it is not deterministic"
            if not facts.deterministic
            else (f"`isos cache enable {model}` has them cached")
        )
        typer.echo(f"Answers of {model} {facts.version} are not cached: {reason}.", err=True)
        raise typer.Exit(4)
    return facts.inputs


def _inputs(file: Path, specs: tuple[TensorSpec, ...]) -> list[Any]:
    from infra.cache_warming import inputs_of_file
    from infra.commands.infer import named

    try:
        return [named(given, specs) for given in inputs_of_file(file)]
    except OSError as error:
        typer.echo(f"{file} cannot be read: {error.strerror or error}.", err=True)
        raise typer.Exit(3) from None
    except ValueError as error:
        typer.echo(f"{file} cannot be used: {str(error).removesuffix('.')}.", err=True)
        raise typer.Exit(2) from None


async def _warm(settings: Settings, model: str, version: str | None, inputs: list[Any]) -> Any:
    from infra.cache_warming import warm
    from streams.client.client import Client

    with shown_progress() as progress:
        async with Client(settings.bootstrap) as client:
            total = len(inputs)
            return await warm(
                client, model, inputs, version=version, progress=lambda done: progress("answered", done, total)
            )

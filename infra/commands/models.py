"""``isos models``: register a file under a name and a version, list, show one model, say which version serves."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from infra.commands import golden as golden_set
from infra.commands.activation import ACTIVATE_EPILOG, activate
from infra.commands.canary import EPILOG as CANARY_EPILOG
from infra.commands.canary import canary
from infra.commands.controlled import answered
from infra.commands.drift import EPILOG as DRIFT_EPILOG
from infra.commands.drift import drift
from infra.commands.output import Output, OutputOption, examples, new_app, settings_of, write
from infra.commands.reference import EPILOG as REFERENCE_EPILOG
from infra.commands.reference import reference
from infra.commands.rollback import EPILOG as ROLLBACK_EPILOG
from infra.commands.rollback import rollback
from infra.commands.shadow import EPILOG as SHADOW_EPILOG
from infra.commands.shadow import shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from infra.registration import Registration
    from infra.settings import Settings
    from schemas.model import ModelVersion, TensorSpec
    from streams.memory_view import MemoryView

app = new_app(has_verbs=True)
app.command(epilog=golden_set.EPILOG)(golden_set.golden)

_T = TypeVar("_T")
READ_TIMEOUT_S = 20.0


@app.command(epilog=examples("isos models register model.onnx --name digits --version v1.0.0 --manifest manifest.json"))
def register(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    name: Annotated[str, typer.Option(help="Model name: 3 to 64 of a-z, A-Z, 0-9, _ and -.")],
    version: Annotated[str, typer.Option(help="Version, like v1.0.0.")],
    manifest: Annotated[Path, typer.Option(help="Manifest, JSON or TOML: inputs, outputs, kernels.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until a plan serves the model.")] = True,
    timeout_s: Annotated[float, typer.Option(min=1, max=600, help="How long to wait for each answer, s.")] = 30.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a model, store it and register it; the same again succeeds.

    Exit code 2 for a wrong manifest, 3 when a file cannot be read, 4 when the model is refused or its version is
    taken by other bytes, 5 when nobody answers in time.
    """
    settings = settings_of(ctx)
    done = _ended(lambda: _register(settings, file, manifest, (name, version), wait, timeout_s))
    if output is Output.TABLE:
        said = "is already registered" if done.outcome == "already_registered" else "is registered"
        plan = ", and the model has a plan" if done.planned else "; the model has no plan yet"
        typer.echo(f"{name} {version} {said} as {done.version.digest[:12]} (memory {done.memory_sequence}){plan}.")
        return
    document = {
        **_row(done.version, None), "digest": done.version.digest, "outcome": done.outcome, "planned": done.planned,
        "memory_sequence": done.memory_sequence, "checks": [asdict(finding) for finding in done.findings],
    }  # fmt: skip
    write([document], output, document)


@app.command("list", epilog=examples("isos models list", "isos models list --output json"))
def list_(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the registered versions."""
    from infra.registration import versions

    view = _ended(lambda: _view(settings_of(ctx)))
    rows = [_row(facts, view) for facts in versions(view)]
    if not rows and output is Output.TABLE:
        typer.echo("No model is registered. `isos models register --help` says how.", err=True)
        return
    write(rows, output)


@app.command(epilog=examples("isos models show digits"))
def show(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="Model name.")], output: OutputOption = Output.TABLE
) -> None:
    """Show one model. Its versions with signature and kernels, and its plan. Exit code 3 when it is not registered."""
    from infra.commands.serving import breaker_rows
    from infra.registration import versions
    from streams.memory_view import active_version, plan
    from streams.memory_view import canary as canary_of

    view = _ended(lambda: _view(settings_of(ctx)))
    found = versions(view, name)
    if not found:
        typer.echo(f"No model {name} is registered. `isos models list` shows what is.", err=True)
        raise typer.Exit(3)
    effective, running = plan(view, name), canary_of(view, name)
    if output is Output.TABLE:
        _print(found, view)
        return
    document = {
        "model": name,
        "active_version": active_version(view, name),
        "canary": None if running is None else asdict(running),
        "plan": None if effective is None else asdict(effective),
        "versions": [asdict(facts) for facts in found],
        "open_breakers": breaker_rows(view, name),
    }
    write([json.loads(json.dumps(document))], output, json.loads(json.dumps(document)))


app.command(epilog=ACTIVATE_EPILOG)(activate)
app.command(epilog=CANARY_EPILOG)(canary)
app.command(epilog=ROLLBACK_EPILOG)(rollback)
app.command(epilog=REFERENCE_EPILOG)(reference)
app.command(epilog=DRIFT_EPILOG)(drift)
app.command(epilog=SHADOW_EPILOG)(shadow)


def _register(
    settings: Settings, file: Path, manifest: Path, identity: tuple[str, str], wait: bool, timeout_s: float
) -> Coroutine[Any, Any, Registration]:
    from executors.manifest import read_manifest

    blob = _read(file)
    described = read_manifest(_read(manifest).decode(errors="replace"), manifest.name)
    return _propose(settings, blob, (*identity, described), wait, timeout_s)


async def _propose(
    settings: Settings, blob: bytes, facts: tuple[str, str, Any], wait: bool, timeout_s: float
) -> Registration:
    from dataclasses import replace

    from executors.model_store import ModelStore
    from infra.audit_trail import CommandAudit
    from infra.registration import Registrar, checked_version
    from streams.connection import Connection

    with _status() as say:
        say("checking the model in a process of its own")
        version, findings = checked_version(blob, *facts)
        say("reading memory")
        where = (Connection(settings.bootstrap), ModelStore(settings.data_dir))
        async with Registrar(*where, timeout_s, audit=CommandAudit(settings)) as registrar:
            done = await registrar.register(blob, version, wait_for_plan=wait, progress=say)
    return replace(done, findings=findings)


async def _view(settings: Settings) -> MemoryView:
    from streams.codec import Codec
    from streams.connection import Connection
    from streams.registry.schema_log import read_schema_ids
    from streams.watch import MemoryWatch

    connection = Connection(settings.bootstrap)
    memory = MemoryWatch(connection, Codec(await read_schema_ids(connection)))
    try:
        await memory.start(READ_TIMEOUT_S)
    finally:
        await memory.stop()
    return memory.view


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        typer.echo(f"{path} cannot be read: {error.strerror}.", err=True)
        raise typer.Exit(3) from None


def _ended(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Result of ``work``; what can go wrong becomes one sentence and an exit code."""
    from executors.manifest import ManifestError

    with answered():
        try:
            return asyncio.run(work())
        except ManifestError as error:
            typer.echo(f"{error}.", err=True)
            raise typer.Exit(2) from None


def _status() -> AbstractContextManager[Callable[[str], None]]:
    """A line on stderr that says what is going on, where somebody watches."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _sentence: None)
    return _Spinner()


class _Spinner(AbstractContextManager["Callable[[str], None]"]):
    """A spinner with a sentence, gone when the work is done."""

    def __init__(self) -> None:
        from rich.console import Console

        self._line = Console(stderr=True).status("starting")

    def __enter__(self) -> Callable[[str], None]:
        self._line.start()
        return self._line.update

    def __exit__(self, *exc: object) -> None:
        self._line.stop()


def _row(facts: ModelVersion, view: MemoryView | None) -> dict[str, Any]:
    from streams.memory_view import plan

    row: dict[str, Any] = {
        "model": facts.model,
        "version": facts.version,
        "digest": facts.digest[:12],
        "size_bytes": facts.size_bytes,
        "inputs": _signature(facts.inputs),
        "outputs": _signature(facts.outputs),
    }
    if view is not None:
        effective = plan(view, facts.model)
        shares = {} if effective is None else {share.version: share.weight_percent for share in effective.versions}
        row["serves_percent"] = shares.get(facts.version, 0)
    return row


def _signature(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype}{[-1, *spec.item_shape]}" for spec in specs)


def _print(found: tuple[ModelVersion, ...], view: MemoryView) -> None:
    from infra.commands.serving import breaker_rows
    from streams.memory_view import canary as canary_of

    running = canary_of(view, found[0].model)
    for facts in found:
        share = _row(facts, view)["serves_percent"]
        role = " as a canary" if running is not None and running.version == facts.version else ""
        typer.echo(f"{facts.model} {facts.version}: {facts.size_bytes:,} bytes, serves {share} % of the requests{role}")
        typer.echo(f"  sha256  {facts.digest}")
        typer.echo(f"  inputs  {_signature(facts.inputs)}")
        typer.echo(f"  outputs {_signature(facts.outputs)}")
        kernels = " -> ".join((*facts.preprocess, "session", *facts.postprocess))
        for each in breaker_rows(view, facts.model):
            if each["version"] == facts.version:
                typer.echo(f"  breaker {each['state'].replace('_', ' ')}: {each['reason']}")
        typer.echo(f"  runs    {kernels}; at most {facts.max_batch_size} items in a batch")
        if facts.variant_of:
            typer.echo(f"  variant of {facts.variant_of}: serves in its place where a scaling policy allows it")
        if facts.ordered:
            typer.echo("  order   OK results of a routing key stand in the order of its requests")

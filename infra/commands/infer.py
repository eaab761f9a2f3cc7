"""``isos infer``: one request, one result."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import BadZipFile

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings
    from schemas.model import TensorSpec
    from streams.client.client import Answer, Array

app = new_app()
EXIT_CODES = {"REJECTED": 4, "EXPIRED": 5, "ERROR": 1}


@app.command(
    epilog=examples(
        "isos infer digits --input image.npy",
        "isos infer digits --input image.npy --timeout-ms 2000 --output json",
        'isos infer adder --json \'{"a": [[1, 2]], "b": [[3, 4]]}\'',
    )
)
def infer(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    file: Annotated[Path | None, typer.Option("--input", help=".npy, or .npz with one array per input.")] = None,
    text: Annotated[str, typer.Option("--json", help="An array, or an object of arrays by input name.")] = "",
    version: Annotated[str, typer.Option(help="Pin a version, like v1.0.0.")] = "",
    timeout_ms: Annotated[int, typer.Option(min=0, help="Budget in milliseconds; 0: the server's default.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send one request and print its outputs. Exit code 4 when it is refused, 5 when it expired, 1 when it failed."""
    from streams.client.client import InferenceError, NoResultError

    if (file is None) == (not text):
        raise typer.BadParameter("give either --input FILE or --json TEXT", param_hint="--input")
    given = _from_file(file) if file is not None else _from_json(text)
    settings = settings_of(ctx)
    with broker_answers():
        try:
            answer = asyncio.run(_ask(settings, model, given, version or None, timeout_ms))
        except InferenceError as error:
            typer.echo(f"{error}", err=True)
            raise typer.Exit(EXIT_CODES[error.status]) from None
        except NoResultError as error:
            typer.echo(f"{error}. `isos ledger` shows what became of it.", err=True)
            raise typer.Exit(5) from None
    document = _document(answer)
    rows = [{"output": name, "values": json.dumps(values)} for name, values in document["outputs"].items()]
    write(rows, output, document)
    if output is Output.TABLE:
        typer.echo(_summary(answer), err=True)


def _from_file(path: Path) -> Mapping[str, Any]:
    """Arrays by input name; the name of a lone array is found out later ("")."""
    import numpy as np

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        typer.echo(f"{path} cannot be read as .npy or .npz: {str(error).removesuffix('.')}.", err=True)
        raise typer.Exit(2) from None


def _from_json(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--json") from None
    return value if isinstance(value, dict) else {"": value}


async def _ask(
    settings: Settings, model: str, given: Mapping[str, Any], version: str | None, timeout_ms: int
) -> Answer:
    from streams.client.client import Client

    specs = await _signature(settings, model, version)
    async with Client(settings.bootstrap) as client:
        return await client.infer(model, named(given, specs), version=version, timeout_ms=timeout_ms)


async def _signature(settings: Settings, model: str, version: str | None) -> tuple[TensorSpec, ...]:
    """Inputs of the version in question as memory knows them; empty for an unknown model, which the server refuses."""
    from streams.codec import Codec
    from streams.connection import Connection
    from streams.memory_view import active_version, model_version
    from streams.registry.schema_log import read_schema_ids
    from streams.watch import MemoryWatch

    connection = Connection(settings.bootstrap)
    memory = MemoryWatch(connection, Codec(await read_schema_ids(connection)))
    try:
        await memory.start(20)
    finally:
        await memory.stop()
    active = version or active_version(memory.view, model)
    facts = model_version(memory.view, model, active) if active else None
    return facts.inputs if facts else ()


def named(given: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Arrays by input name, of the signature's datatypes; one item without its batch axis gets one.

    A datatype is only chosen for values that have none of their own (JSON); an array of a file is sent as it is.
    """
    import numpy as np

    from streams.client.client import to_tensor

    by_name = {spec.name: spec for spec in specs}
    out: dict[str, Array] = {}
    for name, values in given.items():
        target = name or (specs[0].name if specs else "x")
        spec = by_name.get(target)
        try:
            array = values if isinstance(values, np.ndarray) else _array(values, spec.datatype if spec else "")
            array = array[np.newaxis] if spec and array.ndim == len(spec.item_shape) else array
            to_tensor(target, array)
        except (ValueError, OverflowError, TypeError) as error:
            raise typer.BadParameter(f"input {target}: {error}", param_hint="--input or --json") from None
        out[target] = array
    return out


def _array(values: Any, datatype: str) -> Array:
    """Values of JSON as an array of a datatype, "" for that which numpy finds. Raises what numpy raises."""
    import numpy as np

    from streams.client.client import DTYPES, to_bf16

    if datatype == "BF16":
        return to_bf16(np.asarray(values, np.float32))
    return np.asarray(values, dtype=object if datatype == "BYTES" else DTYPES.get(datatype))


def _plain(values: Array) -> Any:
    """An output as JSON has it; texts that are no UTF-8 have replacement characters."""
    if not values.dtype.hasobject:
        return values.tolist()
    import numpy as np

    texts = np.empty(values.shape, object)
    texts.ravel()[:] = [text.decode(errors="replace") for text in values.ravel()]
    return texts.tolist()


def _document(answer: Answer) -> dict[str, Any]:
    result = answer.result
    return {
        "request_id": result.request_id,
        "model": result.model,
        "model_version": result.model_version,
        "status": result.status,
        "outputs": {name: _plain(values) for name, values in answer.outputs.items()},
        "provenance": asdict(result.provenance),
        "timing": {"received_us": result.received_us, **asdict(result.timing), "read_us": answer.read_us},
    }


def _summary(answer: Answer) -> str:
    result = answer.result
    elapsed_ms = (answer.read_us - result.received_us) / 1000
    where = result.provenance.execution_provider or "-"
    return f"{result.model} {result.model_version} on {where}, {elapsed_ms:.1f} ms from the broker's stamp"

"""``isos tail``: print the records of a topic as they come, decoded where asked."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, yaml_lines
from streams.errors import PoisonRecordError
from streams.topics import PREFIX, SCHEMAS_TOPIC, SUFFIX, TOPICS, full_name

if TYPE_CHECKING:
    from streams.codec import Codec
    from streams.connection import Connection

app = new_app()

SHOWN_BYTES: Final = 32
POLL_MS: Final = 200
POSITION_TIMEOUT_S: Final = 15.0


@app.command(
    epilog=examples(
        "isos tail inference.results --decode",
        "isos tail memory.events --decode --from-beginning -n 5 --output jsonl",
    )
)
def tail(
    ctx: typer.Context,
    topic: Annotated[str, typer.Argument(help="Topic, by its short or its full name.")],
    decode: Annotated[bool, typer.Option("--decode", help="Show the record in place of its bytes.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with the oldest record.")] = False,
    number: Annotated[int, typer.Option("-n", "--number", min=0, help="Stop after so many records; 0: never.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print records until interrupted, one line each; json and jsonl are the same here: an object per line.

    Exit code 3 when there is no such topic.
    """
    from streams.connection import Connection

    connection = Connection(settings_of(ctx).bootstrap)
    with broker_answers():
        found = asyncio.run(_tail(connection, topic, decode, from_beginning, number, output))
    if not found:
        typer.echo(f"There is no topic {topic}; `isos topics list` shows them.", err=True)
        raise typer.Exit(3)


async def _tail(
    connection: Connection, topic: str, decode: bool, from_beginning: bool, number: int, output: Output
) -> bool:
    from streams.codec import Codec
    from streams.connection import bounded, consumer, start, stop_quietly
    from streams.provision import topic_partitions
    from streams.registry.schema_log import read_schema_ids

    short = short_name(topic)
    found = await topic_partitions(connection, [short])
    if short not in found:
        return False
    codec = Codec(await read_schema_ids(connection)) if decode and short in TOPICS else None
    client = consumer(connection, isolation_level="read_committed")
    await start(client, "connecting to the broker")
    try:
        position = _position(client, full_name(short), found[short], from_beginning)
        await bounded(position, POSITION_TIMEOUT_S, "finding the offsets")
        await _follow(client, short, codec, number, output)
        return True
    finally:
        await stop_quietly(client)


async def _position(client: Any, name: str, num_partitions: int, from_beginning: bool) -> None:
    from aiokafka import TopicPartition

    partitions = [TopicPartition(name, partition) for partition in range(num_partitions)]
    client.assign(partitions)
    await (client.seek_to_beginning if from_beginning else client.seek_to_end)(*partitions)


async def _follow(client: Any, short: str, codec: Codec | None, number: int, output: Output) -> None:
    left = number
    while True:
        batches = await client.getmany(timeout_ms=POLL_MS)
        for record in sorted((r for batch in batches.values() for r in batch), key=lambda r: r.timestamp):
            sys.stdout.write(line(described(record, short, codec), output) + "\n")
            left -= 1
            if left == 0:
                return
        sys.stdout.flush()


def short_name(topic: str) -> str:
    """Short name of a topic given by either name."""
    if topic == SCHEMAS_TOPIC or not topic.startswith(PREFIX):
        return topic
    return topic.removeprefix(PREFIX).removesuffix(SUFFIX)


def described(record: Any, short: str, codec: Codec | None) -> dict[str, Any]:
    """A consumed record as JSON-like data; with a codec its value is decoded, or says why it cannot be."""
    return {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": readable(record.key),
        "headers": {name: readable(value) for name, value in record.headers},
        "value": _value(record.value, short, codec),
    }


def _value(value: bytes | None, short: str, codec: Codec | None) -> Any:
    if codec is None:
        return readable(value)
    try:
        decoded = codec.decode(short, value)
    except PoisonRecordError as error:
        return {"undecodable": error.code, "message": error.message}
    return plain(decoded) if dataclasses.is_dataclass(decoded) else readable(decoded)


def plain(value: Any) -> Any:
    """A record as JSON-like data: bytes as text or hexadecimal digits, long ones by their size."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return shown(value) if isinstance(value, bytes) else value


def shown(data: bytes) -> str:
    """Bytes as hexadecimal digits, or their number where they are many."""
    return data.hex() if len(data) <= SHOWN_BYTES else f"<{len(data)} bytes>"


def readable(data: bytes | None) -> str | None:
    """Bytes as text where they are printable text, else as ``shown``."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return shown(data)
    return text if text.isprintable() else shown(data)


def line(row: dict[str, Any], output: Output) -> str:
    """One record as text in the wanted form."""
    if output in (Output.JSON, Output.JSONL):
        return json.dumps(row, ensure_ascii=False)
    if output is Output.YAML:
        return "\n".join(["---", *yaml_lines(row)])
    value = row["value"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{row['partition']}:{row['offset']}  {row['key'] if row['key'] is not None else '-'}  {text}"

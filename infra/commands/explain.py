"""``isos explain``: how one answer came about, from the log alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.output import Output, OutputOption, broker_answers, examples, new_app, settings_of, write
from infra.commands.progress import Progress, shown_progress
from streams.errors import IsosError, PoisonRecordError

if TYPE_CHECKING:
    from infra.explanation import Evidence
    from streams.codec import Codec
    from streams.connection import Connection
    from streams.log_scan import LogScan
    from streams.result_search import ResultSearch

app = new_app()

NEWEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """The request that is asked for: by id (of a tenant, if named) among the ``last`` results, or by its place."""

    request_id: str = ""
    tenant: str = ""
    place: tuple[int, int] | None = None
    last: int = NEWEST


class NoSuchRequestError(IsosError):
    """What was asked for is not on the log; ``sentence`` says what is, and what to try next."""

    exit_code = 3

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


@app.command(
    epilog=examples(
        "isos explain 5f0c2d1e-mine",
        "isos explain 5f0c2d1e-mine --tenant default --output json",
        "isos explain --partition 0 --offset 17",
    )
)
def explain(
    ctx: typer.Context,
    request_id: Annotated[str, typer.Argument(help="Id of the request.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Only a request of this tenant.")] = "",
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Partition of the request.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Offset of the request.")] = None,
    last: Annotated[
        int, typer.Option("--last", min=0, help="Look for an id among so many results, the newest; 0: all.")
    ] = NEWEST,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say how a request was answered: where and when, by which model and executor, and by which events of memory.

    Of several results with one id it is the newest. Exit code 3 when there is none.
    """
    by_place = partition is not None and offset is not None
    if bool(request_id) == by_place or (partition is None) != (offset is None):
        raise typer.BadParameter("name a request by its id, or by --partition and --offset")
    from infra.explanation import explained, lines
    from streams.connection import Connection

    connection = Connection(settings_of(ctx).bootstrap)
    place = None if partition is None or offset is None else (partition, offset)
    wanted = Wanted(request_id, tenant, place, last)
    with broker_answers(), shown_progress() as progress:
        try:
            evidence = asyncio.run(gather(connection, wanted, progress))
        except NoSuchRequestError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(3) from None
    document = explained(evidence)
    write(lines(document) if output is Output.TABLE else [document], output, document)


async def gather(connection: Connection, wanted: Wanted, progress: Progress) -> Evidence:
    """Find the result and what led to it. Raises NoSuchRequestError, or RetriableError when the broker is away."""
    from infra.explanation import Evidence
    from streams.codec import Codec
    from streams.log_scan import LogScan
    from streams.provision import topic_ids, topic_partitions
    from streams.registry.schema_log import read_schema_ids
    from streams.result_search import ResultSearch

    names = ("inference.requests", "inference.results", "inference.dlq", "memory.events")
    found = await topic_partitions(connection, names)
    if len(found) < len(names):
        raise NoSuchRequestError("The broker has not all topics; `isos topics provision` creates them.")
    topic_id = (await topic_ids(connection, names[:1]))[names[0]]
    codec = Codec(await read_schema_ids(connection))
    async with LogScan(connection) as scan:
        search = ResultSearch(scan, topic_id, progress)
        record = await _found(search, codec, wanted, (found["inference.requests"], found["inference.results"]))
        result = codec.decode("inference.results", record.value)
        source, sequence = result.source, result.provenance.memory_sequence
        letters = await search.letters(
            source.topic_id, source.partition, source.offset, result.received_us // 1000, record.timestamp
        )
        memory = await _memory(scan, codec, sequence, progress) if sequence else None
    return Evidence(result, record.offset, record.timestamp, dict(record.headers), memory, letters)


async def _found(search: ResultSearch, codec: Codec, wanted: Wanted, num_partitions: tuple[int, int]) -> Any:
    """The result record; ``num_partitions`` of requests and of results. Raises NoSuchRequestError."""
    if wanted.place is None:
        matches = partial(_is_of, codec, wanted)
        record = await search.by_id(wanted.request_id, num_partitions[1], wanted.last, matches)
        if record is None:
            raise NoSuchRequestError(not_found(wanted))
        return record
    record = await _at(search, wanted.place, num_partitions[0])
    if wanted.tenant and not _is_of(codec, wanted, record):
        raise NoSuchRequestError(f"Request {wanted.place[0]}/{wanted.place[1]} is not one of tenant {wanted.tenant}.")
    return record


def not_found(wanted: Wanted) -> str:
    """The sentence for an id that has no result."""
    of = f" of tenant {wanted.tenant}" if wanted.tenant else ""
    where = f"among the newest {wanted.last} results (--last 0 looks at all)" if wanted.last else "on the log"
    return (
        f"No result of a request {wanted.request_id}{of} is {where}. "
        "`isos ledger` says whether a request still waits; with its place: `isos explain --partition P --offset O`."
    )


def _is_of(codec: Codec, wanted: Wanted, record: Any) -> bool:
    """Whether a result record is that of such a request; an empty id or tenant is any."""
    try:
        result = codec.decode("inference.results", record.value)
    except PoisonRecordError:
        return False
    return wanted.request_id in ("", result.request_id) and wanted.tenant in ("", result.tenant)


async def _at(search: ResultSearch, place: tuple[int, int], num_partitions: int) -> Any:
    name = f"{place[0]}/{place[1]}"
    if place[0] >= num_partitions:
        raise NoSuchRequestError(f"There is no partition {place[0]} of requests; `isos topics list` shows how many.")
    request = await search.request(*place)
    record = await search.by_place(*place, None if request is None else request.timestamp)
    if record is None and request is None:
        raise NoSuchRequestError(f"No request stands at {name}, and no result of one; `isos ledger` shows the offsets.")
    if record is None:
        raise NoSuchRequestError(
            f"Request {name} is on the log and has no result yet; `isos ledger` says if it is in flight or missing."
        )
    return record


async def _memory(scan: LogScan, codec: Codec, sequence: int, progress: Progress) -> Any:
    from aiokafka import TopicPartition

    from streams.memory_point import MemoryPoint
    from streams.topics import full_name

    place = TopicPartition(full_name("memory.events"), 0)
    point = MemoryPoint(partial(codec.decode, "memory.events"), sequence)
    first, end = await scan.bounds(place)
    await scan.scan(
        place,
        first,
        end,
        lambda record: point.record(record.offset, record.value),
        lambda reached: progress("memory.events", reached - first, end - first),
    )
    return point

"""Composition of an edge: the parts of ``streams`` around its loop, from settings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from infra.settings import Settings
from streams.blobs.blob_store import LocalBlobStore
from streams.column_fetch import deliver_columns
from streams.committed import CommittedConsumer
from streams.connection import Connection, start, stop_quietly
from streams.edge.earlier import EarlierResults
from streams.edge.edge import REQUESTS, Edge
from streams.edge.forecast import Forecast
from streams.edge.id_restore import IdRestore
from streams.edge.late_rows import LateRows
from streams.edge.load_watch import LoadWatch
from streams.edge.quota import QuotaStore
from streams.edge.request_ids import RequestIds
from streams.edge.request_reader import RequestReader
from streams.edge.row_outlet import RowOutlet
from streams.edge.steering import Steering, Ways, alone
from streams.letters.deadletter import DeadLetters
from streams.registry.schema_watch import SchemaWatch
from streams.topic_watch import Doubt, TopicWatch

TOPIC: Final = "inference.requests"


@dataclass(frozen=True, slots=True)
class EdgeInputs:
    """What an edge is given: its started helpers, the rules, and the id of the requests topic."""

    connection: Connection
    reader: AIOKafkaConsumer
    producer: AIOKafkaProducer
    schemas: SchemaWatch
    dead_letters: DeadLetters
    topic_id: bytes
    admit: Callable[[Any], Any]
    memory_sequence: Callable[[], int]
    watch: TopicWatch
    ordered: Callable[[], Collection[str]] = frozenset
    ways: Ways = alone


@dataclass(frozen=True, slots=True)
class OpenEdge:
    """An edge whose consumer has started. Run ``loop``, ``restore`` and ``loads`` side by side."""

    loop: Edge
    restore: IdRestore
    loads: LoadWatch
    source: CommittedConsumer
    ids: RequestIds
    late: LateRows


@contextlib.asynccontextmanager
async def open_edge(settings: Settings, given: EdgeInputs) -> AsyncIterator[OpenEdge]:
    """Open an edge and close all of it. Raises RetriableError when the broker cannot be reached."""
    codec, topic_id = given.schemas.codec, given.topic_id
    steering = Steering(given.ways)
    forecast = Forecast(steering.spreads)
    doubt = Doubt(given.watch)
    source = CommittedConsumer(given.reader, REQUESTS)
    quota = QuotaStore(settings.redis_address, topic_id, settings.tenant_rate_per_s, settings.tenant_burst)
    ids = RequestIds(settings.redis_address, topic_id, settings.request_id_window_s)
    requests = RequestReader(codec, given.admit, given.schemas, given.memory_sequence)
    outlet = RowOutlet(source, given.producer, codec, given.memory_sequence, topic_id, given.ordered, steering)
    late = LateRows(
        source,
        outlet,
        ids,
        EarlierResults(given.connection, codec, topic_id),
        LocalBlobStore.below(settings.data_dir),
        requests.digest,
    )
    loop = Edge(
        source,
        requests,
        quota,
        ids,
        outlet,
        late,
        given.dead_letters.write_many,
        tick_ms=settings.tick_ms,
        blob_bytes=settings.blob_threshold_bytes,
        doubt=doubt,
        forecast=forecast,
    )
    try:
        await start(given.reader, "starting the edge's consumer")
        doubt.follow(given.reader)
        source.ask = deliver_columns(given.reader, on_demand=True)
        loads = LoadWatch(given.connection, given.schemas, forecast, steering)
        yield OpenEdge(loop, IdRestore(given.connection, topic_id, ids), loads, source, ids, late)
    finally:
        await stop_quietly(given.reader)
        await quota.close()
        await ids.close()

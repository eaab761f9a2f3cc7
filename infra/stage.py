"""What all stages of the data plane are put together from: codec, memory, producers, consumers, signs of life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer

from infra.roles import RoleContext, together
from streams.codec import Codec
from streams.connection import METADATA_MAX_AGE_MS, consumer, producer, start, stop_quietly
from streams.letters.deadletter import DeadLetters
from streams.provision import topic_ids
from streams.pulse import Pulse
from streams.registry.schema_watch import SchemaWatch
from streams.topics import MAX_LETTER_BYTES, full_name
from streams.watch import MemoryWatch

if TYPE_CHECKING:
    from streams.interpreter import FrameInterpreter

REQUESTS: Final = "inference.requests"
START_S: Final = 60.0
HEARTBEAT_MS: Final = 1_000
"""A member hears of a rebalance with its next heartbeat, and all wait for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every stage holds: codec and what keeps it current, memory, producers, letters, the requests topic's id.

    ``producer`` is for frames: an idempotent one, since behind a lost frame none may stand that was sent after it (a
    key's order). ``notes`` is for what may be refused and sent again otherwise: letters, heartbeats, reports.
    """

    codec: Codec
    schemas: SchemaWatch
    memory: MemoryWatch
    producer: AIOKafkaProducer
    notes: AIOKafkaProducer
    dead_letters: DeadLetters
    topic_id: bytes


@contextlib.asynccontextmanager
async def open_parts(context: RoleContext, on_change: Any = None) -> AsyncIterator[Parts]:
    """Everything started, memory read to its end; stopped when the block is left. ``on_change``: of memory."""
    topic_id = (await topic_ids(context.connection, [REQUESTS]))[REQUESTS]
    schemas = await SchemaWatch.open(context.connection)
    codec = schemas.codec
    frames = producer(context.connection, enable_idempotence=True, metadata_max_age_ms=METADATA_MAX_AGE_MS)
    notes = producer(
        context.connection,
        max_request_size=MAX_LETTER_BYTES + 64 * 1024,  # and a batch header
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )
    memory = MemoryWatch(context.connection, codec, on_change=on_change, schemas=schemas)
    try:
        await start(frames, f"starting the producer of {context.name}")
        await start(notes, f"starting the producer of notes of {context.name}")
        await memory.start(START_S)
        letters = DeadLetters(notes, context.role, {full_name(REQUESTS): topic_id})
        yield Parts(codec, schemas, memory, frames, notes, letters, topic_id)
    finally:
        await memory.stop()
        await schemas.stop()
        await stop_quietly(frames)
        await stop_quietly(notes)


def member_of_group(context: RoleContext, group: str, **settings: Any) -> Any:
    """A consumer of a group, with time-outs by the settings; not started."""
    session_ms = context.settings.session_timeout_s * 1000
    return consumer(
        context.connection,
        group_id=group,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=min(HEARTBEAT_MS, session_ms // 3),
        max_poll_interval_ms=300_000,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        **settings,
    )


def pulse_of(context: RoleContext, parts: Parts, **more: Any) -> Pulse:
    """The process's signs of life; ``more`` as of ``streams.pulse.Pulse``."""
    return Pulse(parts.notes, parts.codec, context.role, context.instance, lambda: parts.memory.view.sequence, **more)


def faust_app(context: RoleContext, name: str) -> Any:
    """A Faust app with a data folder of its own."""
    from streams.faust_app import create_app

    data_dir = str(context.settings.run_dir / f"faust-{context.name}")
    return create_app(
        name, context.connection, session_timeout_s=float(context.settings.session_timeout_s), data_dir=data_dir
    )


async def serve(
    context: RoleContext, app: Any, interpreter: FrameInterpreter, pulse: Pulse, *more: Awaitable[None]
) -> None:
    """Run a stage on Faust until it is stopped or a job fails."""
    from streams.faust_transport import member_of
    from streams.silence import watch_for_silence

    async def note(*_: Any, **__: Any) -> None:
        context.member.write(app.conf.id, member_of(app))

    app.on_partitions_assigned.connect(note)
    await app.start()
    context.drains.append(interpreter.takeover.drain)
    try:
        await together(
            pulse.run(),
            ready_when(interpreter.takeover.assigned_once, context),
            watch_for_silence(context.connection, app.conf.id, interpreter.takeover.awaited),
            app.wait_until_stopped(),
            *more,
        )
    finally:
        await interpreter.takeover.stop()
        await app.stop()


async def ready_when(event: asyncio.Event, context: RoleContext) -> None:
    """Say that the process is ready when ``event`` comes."""
    await event.wait()
    context.ready()

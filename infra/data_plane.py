"""Composition of the data plane: rules of ``agents`` and loops of ``streams`` and ``executors`` become processes.

A process imports what its own role needs: that is most of the time of a start, and all of a stack start at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer

from infra.roles import RoleContext, together
from streams.codec import Codec
from streams.connection import FETCH_MAX_WAIT_MS, METADATA_MAX_AGE_MS, consumer, producer, start, stop_quietly
from streams.lane_class import executor_group
from streams.letters.deadletter import DeadLetters
from streams.memory_view import ordered_models
from streams.provision import topic_ids, topic_partitions
from streams.pulse import Pulse, TelemetryWindow
from streams.registry.schema_watch import SchemaWatch
from streams.topic_watch import TopicRecreatedError, TopicWatch, edge_group
from streams.topics import MAX_LETTER_BYTES, full_name
from streams.watch import MemoryWatch

if TYPE_CHECKING:
    from agents.validator import ValidatorState
    from schemas.frame import InferenceFrame
    from streams.frame_effects import SendFrame
    from streams.interpreter import FrameInterpreter
    from streams.ledger_log import Rebuilt

REQUESTS: Final = "inference.requests"
ROUTED: Final = "inference.routed"
START_S: Final = 60.0
HEARTBEAT_MS: Final = 1_000
"""A member hears of a rebalance with its next heartbeat, and all wait for it."""
SLOW_FETCH_MS: Final = 500
"""A waiting fetch of the slow lane returns when data arrives; an idle one costs little this way."""


@dataclass(frozen=True, slots=True)
class _Parts:
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
async def _parts(context: RoleContext, on_change: Any = None) -> AsyncIterator[_Parts]:
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
        yield _Parts(codec, schemas, memory, frames, notes, letters, topic_id)
    finally:
        await memory.stop()
        await schemas.stop()
        await stop_quietly(frames)
        await stop_quietly(notes)


def _group(context: RoleContext, group: str, **settings: Any) -> Any:
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


async def edge(context: RoleContext) -> None:
    """Requests become frames."""
    from agents.admission import AdmissionPolicy, admit
    from infra.edge import EdgeInputs, open_edge

    settings = context.settings
    policy = AdmissionPolicy(settings.default_timeout_ms, settings.max_timeout_ms, settings.region)
    async with _parts(context) as parts:
        group = edge_group(parts.topic_id)
        reader = _group(context, group, isolation_level="read_committed", max_poll_records=5_000)
        watch = TopicWatch(context.connection, REQUESTS, parts.topic_id)
        given = EdgeInputs(
            context.connection,
            reader,
            parts.producer,
            parts.schemas,
            parts.dead_letters,
            parts.topic_id,
            lambda request: admit(request, parts.memory.view, policy),
            lambda: parts.memory.view.sequence,
            watch,
            lambda: ordered_models(parts.memory.view),
        )
        async with open_edge(settings, given) as opened:
            pulse = _pulse(context, parts, more=partial(opened.loop.refused.close, context.instance))
            context.drains.append(opened.source.drain)
            opened.source.on_assigned = partial(context.member.write, group)
            ready = _when(opened.source.joined, context)
            await together(opened.loop.run(), opened.restore.run(), opened.loads.run(), pulse.run(), watch.run(), ready)


async def executor(context: RoleContext) -> None:
    """Routed frames are executed."""
    from executors.crash_log import CrashLog
    from executors.lanes import assignor
    from executors.load_report import send_reports
    from executors.provider import require
    from executors.statistics import send_statistics
    from infra.executor import ExecutorInputs, PlannedModels, open_executor

    settings = context.settings
    provider = await asyncio.to_thread(require, settings.device)
    slow = context.instance >= settings.most_executors
    lanes = (await topic_partitions(context.connection, [ROUTED]))[ROUTED]
    num_slow, group = settings.num_slow_lanes, executor_group(slow=slow)
    planned = PlannedModels(lanes, num_slow, slow=slow)
    crashes = CrashLog(settings.run_dir, context.name)
    crashes.watch()

    async with _parts(context, planned.changed) as parts:
        reader = _group(
            context,
            group,
            max_poll_records=1_000,
            partition_assignment_strategy=(assignor(num_slow, slow=slow),),  # one: see there
            fetch_max_wait_ms=SLOW_FETCH_MS if slow else FETCH_MAX_WAIT_MS,
            client_id=f"isos-executor-{context.instance:05d}",  # members are sorted by it: lane n is executor n's
        )
        name = f"executor-{context.instance}"
        given = ExecutorInputs(
            name, reader, parts.producer, parts.schemas, parts.dead_letters, lambda: parts.memory.view, crashes, planned
        )  # fmt: skip
        async with open_executor(settings, given) as opened:
            loop, loader = opened.loop, opened.loader

            def assigned(member_id: str) -> None:
                context.member.write(group, member_id)
                loader.renew()

            def load() -> tuple[str, str, float, float, float]:
                return settings.device, provider, *loop.utilisation.close(time.time_ns() / 1000)

            loop.lanes.on_assigned = assigned
            context.drains.append(loop.drain)
            attempts = partial(loop.attempts, context.instance)
            pulse = _pulse(context, parts, models=loader.loaded, load=load, windows=(attempts,))
            reports = send_reports(parts.notes, parts.codec, loop.load)
            counted = loop.statistics, lambda: parts.memory.view, settings.statistics_s
            rows = send_statistics(parts.notes, parts.codec, *counted)
            await together(loop.run(), pulse.run(), reports, rows, opened.loading, _when(loop.joined, context))


async def router(context: RoleContext) -> None:
    """Admitted frames are routed by the plan in memory."""
    from agents.router import ROUTER, RouterParams
    from infra.cache import open_cache
    from infra.hedging import HedgeWindow, router_news
    from streams.decision_notes import DecisionNotes
    from streams.interpreter import FrameInterpreter
    from streams.route_load import RouteLoad

    lanes = (await topic_partitions(context.connection, [ROUTED]))[ROUTED]
    params = RouterParams(
        num_lanes=lanes,
        num_slow_lanes=context.settings.num_slow_lanes,
        sample_every=context.settings.decision_sample,
    )
    spec = replace(ROUTER, params=params)
    own_bytes = context.settings.cache_local_bytes
    async with _parts(context) as parts, open_cache(context.settings, local_bytes=own_bytes) as cache:
        app = _app(context, "router")
        interpreter = FrameInterpreter(
            spec,
            app,
            parts.producer,
            parts.codec,
            parts.memory,
            look_up=cache.answer,
            on_defect=context.defect,
            dead_letter=parts.dead_letters.write,
            schemas=parts.schemas,
        )
        hedges = HedgeWindow(parts.memory)
        load = RouteLoad(context.instance, interpreter.deferred_frames, time.time_ns() // 1000)

        def sent(effect: SendFrame) -> None:
            hedges.add(effect)
            load.add(effect)

        notes = DecisionNotes(context.instance, parts.codec, params)
        interpreter.counts.sent, interpreter.counts.decided = sent, notes.add

        def told(now_us: int) -> list[tuple[str, Any]]:
            return [*load.close(now_us), *notes.close(now_us)]

        windows = partial(cache.window, context.role, context.instance), partial(hedges.close, context.instance)
        more = parts.schemas, interpreter.takeover, parts.memory, lanes, context.settings.num_slow_lanes
        news = router_news(context.connection, parts.codec, *more)
        await _serve(context, app, interpreter, _pulse(context, parts, windows=windows, more=told), news.run())


async def validator(context: RoleContext) -> None:
    """Executed frames are gated and answered."""
    from agents.validator import VALIDATOR, ValidatorParams, ValidatorState
    from infra.cache import open_cache
    from streams.interpreter import FrameInterpreter
    from streams.ledger_log import LedgerLog

    settings = context.settings
    give_up_us = (settings.max_timeout_ms + settings.grace_ms) * 1000
    spec = replace(VALIDATOR, params=ValidatorParams(give_up_us=give_up_us))
    window = TelemetryWindow()
    async with _parts(context) as parts, open_cache(settings, local_bytes=0) as cache:
        app = _app(context, "validator")

        def initial(partition: int, rebuilt: Rebuilt) -> ValidatorState:
            return ValidatorState(
                parts.topic_id, partition, rebuilt.terminals, rebuilt.results_offset, rebuilt.num_reaped
            )

        watch = TopicWatch(context.connection, REQUESTS, parts.topic_id)

        async def ours(frame: InferenceFrame) -> None:
            """A frame of another requests topic is dropped, but only by who is sure to know the newest."""
            if frame.topic_id != parts.topic_id:
                try:
                    await watch.confirm(frame.created_us)
                except TopicRecreatedError as error:
                    context.defect(error)
                    raise

        interpreter = FrameInterpreter(
            spec,
            app,
            parts.producer,
            parts.codec,
            parts.memory,
            check=ours,
            fill=cache.fill,
            ledger_of=lambda partition: LedgerLog(
                context.connection, parts.codec, parts.topic_id, partition, fence=settings.fence
            ),
            initial=initial,
            on_defect=context.defect,
            dead_letter=parts.dead_letters.write,
            schemas=parts.schemas,
        )
        interpreter.counts.answered = window.add
        telemetry = partial(window.close, context.role, context.instance, 0)
        pulse = _pulse(context, parts, windows=(telemetry, partial(window.close_faults, context.instance)))
        await _serve(context, app, interpreter, pulse, watch.run())


def _pulse(context: RoleContext, parts: _Parts, **more: Any) -> Pulse:
    return Pulse(parts.notes, parts.codec, context.role, context.instance, lambda: parts.memory.view.sequence, **more)


def _app(context: RoleContext, name: str) -> Any:
    from streams.faust_app import create_app

    data_dir = str(context.settings.run_dir / f"faust-{context.name}")
    return create_app(
        name, context.connection, session_timeout_s=float(context.settings.session_timeout_s), data_dir=data_dir
    )


async def _serve(
    context: RoleContext, app: Any, interpreter: FrameInterpreter, pulse: Pulse, *more: Awaitable[None]
) -> None:
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
            _when(interpreter.takeover.assigned_once, context),
            watch_for_silence(context.connection, app.conf.id, interpreter.takeover.awaited),
            app.wait_until_stopped(),
            *more,
        )
    finally:
        await interpreter.takeover.stop()
        await app.stop()


async def _when(event: asyncio.Event, context: RoleContext) -> None:
    await event.wait()
    context.ready()

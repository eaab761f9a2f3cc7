"""Composition of the data plane: rules of ``agents`` and loops of ``streams`` and ``executors`` become processes.

A process imports what its own role needs: that is most of the time of a start, and all of a stack start at once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from infra.roles import RoleContext, together
from infra.stage import REQUESTS, faust_app, member_of_group, open_parts, pulse_of, ready_when, serve
from streams.connection import FETCH_MAX_WAIT_MS
from streams.lane_class import executor_group
from streams.memory_view import ordered_models
from streams.provision import topic_partitions
from streams.pulse import TelemetryWindow
from streams.topic_watch import TopicRecreatedError, TopicWatch, edge_group

if TYPE_CHECKING:
    from agents.validator import ValidatorState
    from schemas.frame import InferenceFrame
    from streams.frame_effects import SendFrame
    from streams.ledger_log import Rebuilt

ROUTED: Final = "inference.routed"
SLOW_FETCH_MS: Final = 500
"""A waiting fetch of the slow lane returns when data arrives; an idle one costs little this way."""


async def edge(context: RoleContext) -> None:
    """Requests become frames."""
    from agents.admission import AdmissionPolicy, admit
    from infra.check_key import check_key
    from infra.edge import EdgeInputs, open_edge
    from streams.edge.steering import ways_of

    settings = context.settings
    policy = AdmissionPolicy(settings.default_timeout_ms, settings.max_timeout_ms, settings.region, check_key(settings))
    lanes = (await topic_partitions(context.connection, [ROUTED]))[ROUTED]
    async with open_parts(context) as parts:
        group = edge_group(parts.topic_id)
        reader = member_of_group(context, group, isolation_level="read_committed", max_poll_records=5_000)
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
            ways_of(lambda: parts.memory.view, lanes, settings.num_slow_lanes, settings.most_executors),
        )
        async with open_edge(settings, given) as opened:
            pulse = pulse_of(context, parts, more=partial(opened.loop.refused.close, context.instance))
            context.drains.append(opened.source.drain)
            opened.source.on_assigned = partial(context.member.write, group)
            ready = ready_when(opened.source.joined, context)
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

    async with open_parts(context, planned.changed) as parts:
        reader = member_of_group(
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
            pulse = pulse_of(context, parts, models=loader.loaded, load=load, windows=(attempts,))
            reports = send_reports(parts.notes, parts.codec, loop.load)
            counted = loop.statistics, lambda: parts.memory.view, settings.statistics_s
            rows = send_statistics(parts.notes, parts.codec, *counted)
            await together(loop.run(), pulse.run(), reports, rows, opened.loading, ready_when(loop.joined, context))


async def router(context: RoleContext) -> None:
    """Admitted frames are routed by the plan in memory."""
    from agents.freshness import FreshnessParams
    from agents.router import ROUTER, RouterParams
    from infra.cache import open_cache
    from infra.cached_traffic import CachedTraffic
    from infra.hedging import HedgeWindow, router_news
    from infra.memory_age import MemoryAge
    from streams.columns import SHADOW
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
    async with open_parts(context) as parts, open_cache(context.settings, local_bytes=own_bytes) as cache:
        app = faust_app(context, "router")
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
            if SHADOW not in effect.frame.roles:  # nobody is to scale for copies
                load.add(effect)

        notes = DecisionNotes(context.instance, parts.codec, params)
        interpreter.counts.sent, interpreter.counts.decided = sent, notes.add
        cached = CachedTraffic(f"router-{context.instance}", lambda: parts.memory.view, context.settings.statistics_s)
        interpreter.counts.looked_up = cached.note

        def told(now_us: int) -> list[tuple[str, Any]]:
            return [*load.close(now_us), *notes.close(now_us)]

        windows = partial(cache.window, context.role, context.instance), partial(hedges.close, context.instance)
        more = parts.schemas, interpreter.takeover, parts.memory, lanes, context.settings.num_slow_lanes
        news = router_news(context.connection, parts.codec, *more)
        age = MemoryAge(
            context.connection, parts.codec, parts.schemas, parts.memory,
            lambda: interpreter.takeover.held.values(),  # another dictionary with each generation
            FreshnessParams(context.settings.memory_bound_s * 1_000_000),
        )  # fmt: skip
        pulse = pulse_of(context, parts, windows=windows, more=told)
        await serve(context, app, interpreter, pulse, news.run(), age.run(), cached.run(parts.notes, parts.codec))


async def validator(context: RoleContext) -> None:
    """Executed frames are gated and answered."""
    from agents.validator import VALIDATOR, ValidatorParams, ValidatorState
    from infra.cache import open_cache
    from streams.interpreter import FrameInterpreter
    from streams.ledger_log import LedgerLog
    from streams.shadow_notes import ShadowNotes

    settings = context.settings
    give_up_us = (settings.max_timeout_ms + settings.grace_ms) * 1000
    spec = replace(VALIDATOR, params=ValidatorParams(give_up_us=give_up_us))
    window = TelemetryWindow()
    async with open_parts(context) as parts, open_cache(settings, local_bytes=0) as cache:
        app = faust_app(context, "validator")

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
        copies = ShadowNotes()
        interpreter.counts.answered, interpreter.counts.compared = window.add, copies.add
        telemetry = partial(window.close, context.role, context.instance, 0)
        windows = telemetry, partial(window.close_faults, context.instance)
        pulse = pulse_of(context, parts, windows=windows, more=copies.close)
        await serve(context, app, interpreter, pulse, watch.run())

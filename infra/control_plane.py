"""Composition of the control plane: seven agents on journal-first loops; the Orchestrator in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from agents.drift_case import DriftParams
from agents.known_good import GoodParams
from agents.load_picture import PictureParams
from agents.monitor import MONITOR
from agents.orchestrator import ORCHESTRATOR
from agents.planner import PLANNER
from agents.planner import Params as PlannerParams
from agents.pool_look import Params as ScalerParams
from agents.researcher import RESEARCHER
from agents.researcher import Params as ResearcherParams
from agents.reviewer import REVIEWER
from agents.scaler import scaler
from agents.validations import VALIDATIONS
from infra.alerting import announce_alerts
from infra.audit_actor import actor_of
from infra.audit_log import keep_audit_log
from infra.blobs import collect_regularly
from infra.prober import probe
from infra.roles import RoleContext, together
from infra.rules import load_rules
from infra.settings import Settings
from infra.supervision import supervise
from streams.agent import AgentSpec
from streams.audit_writer import AuditWriter
from streams.connection import producer, start, stop_quietly
from streams.control.control_loop import ControlLoop
from streams.control.event_store import EventStore
from streams.partition_log import KafkaLog
from streams.pulse import Pulse
from streams.registry.schema_watch import SchemaWatch

SETTLE_S: Final = 90.0

Beside = Callable[[RoleContext, ControlLoop, SchemaWatch], Awaitable[None]]
"""A job in the process of an agent."""


async def orchestrator(context: RoleContext) -> None:
    """Memory's only writer, and the audit log's."""
    await run_agents(context, (ORCHESTRATOR,), keep_audit_log)


async def control(context: RoleContext) -> None:
    """All other control agents, one Faust app each, and the jobs beside them: blobs, prober, supervisor, alerts."""
    agents = run_agents(context, control_specs(context.settings))
    given = context.settings, context.connection
    audit = AuditWriter(context.connection, actor_of(context.settings, context.name))
    context.drains.append(audit.drain)
    scaling, alerts = supervise(*given, audit.operation), announce_alerts(*given, audit.operation)
    await together(agents, audit.run(), collect_regularly(*given), probe(*given), scaling, alerts)


def control_specs(settings: Settings) -> tuple[AgentSpec, ...]:
    """The agents of the control process, with the parameters that settings and the rules file give."""
    first_slow = settings.most_executors if settings.num_slow_lanes else 0
    planner = replace(PLANNER, params=PlannerParams(settings.default_timeout_ms, first_slow=first_slow))
    researcher = replace(RESEARCHER, params=ResearcherParams(load_rules(settings.data_dir)))
    drift = DriftParams(window_us=settings.drift_window_s * 1_000_000, min_rows=settings.drift_min_rows)
    good = GoodParams(min_rows=settings.known_good_rows, min_us=settings.known_good_s * 1_000_000)
    bound_us = settings.memory_bound_s * 1_000_000
    monitor = replace(MONITOR, params=replace(MONITOR.params, drift=drift, good=good, bound_us=bound_us))
    picture = PictureParams(first_slow=settings.most_executors, has_slow=settings.num_slow_lanes > 0)
    most = max(1, settings.most_executors)
    scaling = scaler(ScalerParams(picture, most_replicas=most, most_slow=settings.num_slow_lanes))
    return (planner, monitor, scaling, REVIEWER, researcher, VALIDATIONS)


async def run_agents(context: RoleContext, specs: tuple[AgentSpec, ...], beside: Beside | None = None) -> None:
    """Run agents until cancelled, and what runs ``beside`` the first; ready once each is active or standby here."""
    schemas = await SchemaWatch.open(context.connection)
    codec = schemas.codec
    loops = [make_loop(context, spec, schemas) for spec in specs]
    sender = producer(context.connection)
    pulse = Pulse(sender, codec, context.role, context.instance, lambda: loops[0].memory_sequence)
    try:
        await start(sender, f"starting the producer of {context.name}")
        await asyncio.gather(*(loop.start() for loop in loops))
        await asyncio.gather(*(loop.wait_settled(SETTLE_S) for loop in loops))
        context.ready()
        jobs = [] if beside is None else [beside(context, loops[0], schemas)]
        await together(pulse.run(), *jobs, *(loop.watch_for_silence() for loop in loops))
    finally:
        await asyncio.gather(*(loop.stop() for loop in loops), return_exceptions=True)
        await stop_quietly(sender)
        await schemas.stop()


def make_loop(context: RoleContext, spec: AgentSpec, schemas: SchemaWatch) -> ControlLoop:
    """The loop of one agent; the Orchestrator's writes to memory."""
    settings, codec = context.settings, schemas.codec
    partitions = KafkaLog(context.connection, fence=settings.fence)
    data_dir = settings.data_dir / "faust" / f"{spec.name}-{context.instance}"
    data_dir.mkdir(parents=True, exist_ok=True)
    return ControlLoop(
        spec,
        context.connection,
        codec,
        partitions,
        data_dir=str(data_dir),
        on_defect=context.defect,
        session_timeout_s=settings.session_timeout_s,
        memory=EventStore(partitions, codec) if spec is ORCHESTRATOR else None,
        schemas=schemas,
        note=context.member_of(spec.name),
    )

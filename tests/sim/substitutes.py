"""Puts the simulated clients and clocks into the modules that the processes run, for as long as a simulation lasts."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import redis

import executors.session
import streams.blobs.blob_store
import streams.column_fetch
import streams.connection
import streams.edge.redis_link
import streams.faust_app
import streams.fenced
import streams.interpreter
import streams.partition_run
import streams.provision
import streams.retry_budget
from tests.sim.blobs import SimBlobs
from tests.sim.bounds import BOUNDS as BOUNDS
from tests.sim.broker_clients import SimConsumer
from tests.sim.broker_senders import SimProducer, SimWriter, sim_topic_ids
from tests.sim.faust_app import SimApp
from tests.sim.redis_double import RedisDouble, redis_module
from tests.sim.roles import SimSession, WatchedRun
from tests.sim.world import World

PACKAGES = ("streams.", "executors.", "agents.", "infra.")

POOR: Final = 3.0
"""Tokens of a full bucket of retries where a world is poor."""
HEDGING: Final = {"MIN_SAMPLES": 3, "COST": 2, "RESERVE": 0}
"""Hedging begins early and costs little."""


class SimTime:
    """The module ``time`` of simulated processes: each has a wall clock of its own, all share the monotonic one."""

    def __init__(self, world: World) -> None:
        self.world = world

    def time_ns(self) -> int:
        skew_us = 0 if self.world.current is None else self.world.current.skew_us
        return (self.world.now_us + int(skew_us)) * 1_000

    def time(self) -> float:
        return self.time_ns() / 1e9

    def monotonic(self) -> float:
        return self.world.elapsed_s()

    perf_counter = monotonic

    def perf_counter_ns(self) -> int:
        return int(self.world.elapsed_s() * 1e9)

    monotonic_ns = perf_counter_ns


@contextlib.contextmanager
def substituted(world: World) -> Iterator[None]:
    """Everything in ``PACKAGES`` that names a real client or the clock names the simulated one meanwhile."""
    substitutes: dict[Any, Any] = {
        streams.connection.consumer: SimConsumer,
        streams.connection.producer: SimProducer,
        streams.fenced.FencedWriter: SimWriter,
        streams.faust_app.create_app: SimApp,
        streams.partition_run.PartitionRun: WatchedRun,
        executors.session.ModelSession: type("SimSession", (SimSession,), {"world": world}),
        streams.blobs.blob_store.LocalBlobStore: SimpleNamespace(below=lambda _: SimBlobs(world)),
        streams.provision.topic_ids: sim_topic_ids,
        streams.column_fetch.deliver_columns: SimConsumer.deliver_columns,
        redis: redis_module(world),
        streams.edge.redis_link.RedisLink: lambda _: RedisDouble(world),
        time: SimTime(world),
        random: world.rng,
    }
    saved: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if not name.startswith(PACKAGES):
            continue
        for attribute, value in list(vars(module).items()):
            try:
                substitute = substitutes.get(value)
            except TypeError:
                continue
            if substitute is not None:
                saved.append((module, attribute, value))
                setattr(module, attribute, substitute)
    lowered = [(name, *each) for name, each in BOUNDS.items()]
    for name, attribute, bound in (*lowered, *[("agents.hedge", *each) for each in HEDGING.items()]):
        saved.append((sys.modules[name], attribute, getattr(sys.modules[name], attribute)))
        setattr(sys.modules[name], attribute, bound)
    if world.profile.poor:
        saved.append((streams.retry_budget, "FULL", streams.retry_budget.FULL))
        streams.retry_budget.FULL = POOR  # type: ignore[misc]
    try:
        yield
    finally:
        for module, attribute, value in saved:
            setattr(module, attribute, value)

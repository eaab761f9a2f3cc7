"""The six roles as the simulation runs them: the real loops, put together as ``infra`` does, over simulated clients."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from agents.admission import AdmissionPolicy, admit
from agents.freshness import FreshnessParams
from agents.router import ROUTER, RouterParams
from agents.validator import VALIDATOR, ValidatorParams, ValidatorState
from executors.load_report import send_reports
from executors.loader import ModelLoader
from executors.profile import Profile
from executors.retry import max_attempts
from executors.session import ExecutionError
from executors.worker import Worker
from infra.edge import EdgeInputs, open_edge
from infra.hedging import router_news
from infra.memory_age import MemoryAge
from infra.roles import together
from infra.settings import Settings
from schemas.model import ModelVersion
from streams.agent import AgentSpec
from streams.cache.lookup import LookedUp, Lookup
from streams.cache.store import CacheStore
from streams.cache.values import Seal
from streams.columns import Array
from streams.interpreter import FrameInterpreter
from streams.key_order import ordered_as_of
from streams.ledger_log import LedgerLog, Rebuilt
from streams.letters.deadletter import DeadLetters
from streams.memory_view import MemoryView, ordered_models
from streams.partition_run import PartitionRun
from streams.topic_watch import TopicWatch
from streams.watch import MemoryWatch
from tests.sim.blobs import SimBlobs
from tests.sim.broker_clients import SimConsumer
from tests.sim.broker_senders import SimProducer
from tests.sim.control_agents import TIMEOUT_MS
from tests.sim.faust_app import SimApp
from tests.sim.processes import Process
from tests.sim.profile import FOREVER_US
from tests.sim.retry_invariants import fail_in_passing
from tests.sim.world import LANES, TOPIC_ID, World

CHECK_KEY = b"known to edges and checks"
POLICY = AdmissionPolicy(default_timeout_ms=TIMEOUT_MS, max_timeout_ms=2 * TIMEOUT_MS, check_key=CHECK_KEY)
TICK_MS = 20
BURST = 10
SETTINGS = Settings.model_construct(tick_ms=TICK_MS, request_id_window_s=1_000_000)
FAILS = -1.0
NOT_FINITE = -2.0


def compute(x: Array) -> Array:
    """What every simulated model computes; a FAILS item breaks its batch, a NOT_FINITE one comes out as NaN."""
    if (x == FAILS).any():
        raise ExecutionError("execution_failed", "the batch cannot be computed")
    return np.where(x == NOT_FINITE, np.float32(np.nan), x * 2 + 1).astype(np.float32)


class SimSession:
    """A loaded model; those with an even digest are slow and run in a thread."""

    provider = "simulated"
    reentrant = True
    fallback = None
    world: World

    def __init__(self, model: ModelVersion) -> None:
        self.model = model
        self.profile = Profile(300_000.0 if model.version.endswith("0") else 100.0, 10.0, model.max_batch_size)

    @classmethod
    def load(cls, blob: bytes, model: ModelVersion, device: str = "auto", warm: bool = True) -> SimSession:
        """Nothing to load."""
        return cls(model)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute a batch."""
        fail_in_passing(self.world, inputs["x"])
        return {"y": compute(inputs["x"])}


class SimSchemas:
    """A ``SchemaWatch`` with nothing to learn."""

    def __init__(self, world: World) -> None:
        self.codec = world.codec

    async def learn(self, schema_id: int, *, surely: bool = False) -> bool:
        """Ask in vain."""
        await asyncio.sleep(0)
        return False

    async def prepare(self, topic: str, value: bytes | None, *, surely: bool = False) -> None:
        """Ask in vain."""
        await asyncio.sleep(0)


class EdgeProcess(Process):
    """``infra.data_plane.edge``."""

    role = "edge"

    async def serve(self) -> None:
        memory = await self.follow_memory()
        sender, profile = SimProducer(self, enable_idempotence=True), self.world.profile
        notes = SimProducer(self)
        connection: Any = self
        given = {
            "connection": connection,
            "reader": SimConsumer(self, group_id="isos-edge"),
            "producer": sender,
            "schemas": SimSchemas(self.world),
            "dead_letters": DeadLetters(notes, self.role),
            "topic_id": TOPIC_ID,
            "admit": lambda request: admit(request, memory.view, POLICY),
            "memory_sequence": lambda: memory.view.sequence,
            "watch": TopicWatch(connection, "inference.requests", TOPIC_ID),
            "ordered": lambda: ordered_models(memory.view),
        }
        settings = SETTINGS.model_copy(
            update={
                "tenant_rate_per_s": profile.rate_per_s,
                "tenant_burst": BURST if profile.rate_per_s < 10 else 10**6,
                "blob_threshold_bytes": profile.blob_bytes,
            }
        )
        async with open_edge(settings, EdgeInputs(**given)) as opened:
            await together(opened.loop.run(), opened.restore.run(), opened.loads.run())


class ExecutorProcess(Process):
    """``infra.data_plane.executor``."""

    role = "executor"

    async def serve(self) -> None:
        loaders: list[ModelLoader] = []

        def changed(view: Any) -> None:
            for each in loaders:
                each.want_planned(view)

        memory = await self.follow_memory(changed)
        blobs: Any = SimBlobs(self.world)
        store: Any = SimpleNamespace(get=lambda digest: b"")
        loader = ModelLoader(store, "auto", lambda: memory.view, unknown_s=1e9)
        loaders.append(loader)
        loader.want_planned(memory.view)
        loading = asyncio.ensure_future(loader.run())
        sender, notes = SimProducer(self, enable_idempotence=True), SimProducer(self)
        self.worker = Worker(
            SimConsumer(self, group_id="isos-executor"), sender, self.world.codec, loader,
            blobs, DeadLetters(notes, self.role).write, name=self.name, tick_ms=TICK_MS,
            ordered=lambda sequence: ordered_as_of(memory.view, sequence),
            max_attempts=lambda model: max_attempts(memory.view, model),
        )  # fmt: skip
        reports = send_reports(notes, self.world.codec, self.worker.load)
        await asyncio.gather(self.worker.run(), loading, reports)


def cache_store(*, local_bytes: int) -> CacheStore:
    """``infra.cache.open_cache``, with bounds that are reached."""
    return CacheStore("simulated", Seal(bytes(32)), max_bytes=20_000, local_bytes=local_bytes)


class FrameProcess(Process):
    """Router or Validator. ``runs`` holds the newest run of each partition, for whoever checks its state."""

    spec: AgentSpec

    async def serve(self) -> None:
        memory = await self.follow_memory()
        app, sender, notes = SimApp(self.role, self), SimProducer(self, enable_idempotence=True), SimProducer(self)
        interpreter = FrameInterpreter(
            self.specified(), app, sender, self.world.codec, memory,  # type: ignore[arg-type]
            on_defect=self.fail, dead_letter=DeadLetters(notes, self.role).write, **self.more(),
        )  # fmt: skip
        await app.start()
        self.takeover = interpreter.takeover
        await together(self.beside(interpreter, memory))

    async def beside(self, interpreter: FrameInterpreter, memory: MemoryWatch) -> None:
        """What runs beside the frames, without an end."""
        await asyncio.Event().wait()

    def specified(self) -> AgentSpec:
        """The agent with this world's parameters."""
        raise NotImplementedError

    def more(self) -> dict[str, Any]:
        """Further arguments of the interpreter."""
        return {}


class WatchedRun(PartitionRun):
    """A run that its process knows of."""

    def __init__(self, interpreter: Any, held: Any, ledger: Any, state: Any) -> None:
        super().__init__(interpreter, held, ledger, state)
        interpreter.app.process.world.count(f"{interpreter.spec.name} states")
        self.checked: Any = None
        self.process: Process = interpreter.app.process
        self.process.runs[held.partition if ledger is not None else (held.topic, held.partition)] = self


class RouterProcess(FrameProcess):
    """``infra.data_plane.router``. ``asked_by``: the memory by which each look-up under way is made."""

    role = "router"

    async def serve(self) -> None:
        self.asked_by: dict[int, MemoryView] = {}
        await super().serve()

    def specified(self) -> AgentSpec:
        def lookups(frame: Any, memory: MemoryView, params: Any) -> Lookup | None:
            asked = ROUTER.lookups(frame, memory, params) if ROUTER.lookups is not None else None
            if asked is not None:
                self.asked_by[id(asked)] = memory
            return asked

        params = RouterParams(num_lanes=LANES, hold_us=self.world.profile.hold_us)
        return replace(ROUTER, params=params, lookups=lookups)

    def more(self) -> dict[str, Any]:
        store = cache_store(local_bytes=1_000)

        async def look_up(lookup: Lookup) -> LookedUp:
            view = self.asked_by.pop(id(lookup))
            found = await store.answer(lookup)
            self.world.looked_up.append((view, found))
            return found

        return {"look_up": look_up}

    async def beside(self, interpreter: FrameInterpreter, memory: MemoryWatch) -> None:
        given: Any = self
        news = router_news(given, self.world.codec, None, interpreter.takeover, memory, LANES, 0)
        if self.world.profile.bound_us == FOREVER_US:
            await news.run()
            return
        age = MemoryAge(
            given, self.world.codec, None, memory, lambda: interpreter.takeover.held.values(),
            FreshnessParams(self.world.profile.bound_us), clock_us=lambda: self.world.now_us + self.skew_us,
        )  # fmt: skip
        await together(news.run(), age.run())


class ValidatorProcess(FrameProcess):
    """``infra.data_plane.validator``."""

    role = "validator"

    async def beside(self, interpreter: FrameInterpreter, memory: MemoryWatch) -> None:
        interpreter.counts.compared = lambda noted: self.world.compared.extend(noted.comparisons)
        await super().beside(interpreter, memory)

    def specified(self) -> AgentSpec:
        return replace(VALIDATOR, params=ValidatorParams(give_up_us=self.world.profile.give_up_us))

    def more(self) -> dict[str, Any]:
        def initial(partition: int, rebuilt: Rebuilt) -> ValidatorState:
            return ValidatorState(TOPIC_ID, partition, rebuilt.terminals, rebuilt.results_offset, rebuilt.num_reaped)

        def ledger_of(partition: int) -> LedgerLog:
            return LedgerLog(self, self.world.codec, TOPIC_ID, partition)  # type: ignore[arg-type]

        return {"ledger_of": ledger_of, "initial": initial, "fill": cache_store(local_bytes=0).fill}

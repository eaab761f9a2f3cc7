"""State machine of plans: Planner and Orchestrator over a log, whatever happens to what is between them.

Proposals are delayed, lost, repeated, refused as stale; either agent dies before it sends and comes back. Whenever
everything that stands has been delivered and some time has gone by, memory has the plan that the Planner wants, and
the Planner knows.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.constraint import KIND, Constraint
from agents.orchestrator import ORCHESTRATOR
from agents.planner import PLANNER, wanted_plan
from schemas.canary import Canary
from schemas.memory import MemoryCommand
from schemas.plan import Plan, VersionWeight
from schemas.review import ContextSignal
from schemas.serving import ServingPolicy
from schemas.shadow import ShadowPolicy
from schemas.telemetry import Heartbeat, LoadedModel
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, model_version, plan
from tests.sim.canary_rules import CanaryRules
from tests.support.agent_bench import AgentBench
from tests.support.control import model_version as registered_version

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

MODELS = ("alpha", "beta")
VERSIONS = ("v1.0.0", "v1.1.0", "v1.2.0")
AGENTS = ("orchestrator", "planner")
SECOND = 1_000_000
SETTLE_TICKS = 45
"""Seconds within which the Planner has asked again, and has stopped waiting for a load to last."""


class PlanMachine(RuleBasedStateMachine):
    """``effective``: the version of each plan in memory as the model counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = AgentBench((ORCHESTRATOR, PLANNER))
        self.number = 0
        self.law = CanaryRules()
        self.judged = 0

    def ask(self, kind: str, key: str, body: str, agent: str = "cli") -> None:
        self.number += 1
        command = MemoryCommand(f"c{self.number}", agent, kind, key, -1, body, "", (), self.bench.now_us)
        self.bench.put("memory.commands", key, command)

    @rule(model=st.sampled_from(MODELS), version=st.sampled_from(VERSIONS), batch=st.sampled_from((8, 64)))
    def register(self, model: str, version: str, batch: int) -> None:
        self.ask("RegisterModel", f"model/{model}/{version}", to_json(registered_version(model, version, batch=batch)))

    @rule(model=st.sampled_from(MODELS), version=st.sampled_from(VERSIONS))
    def activate(self, model: str, version: str) -> None:
        self.ask("ActivateVersion", f"active/{model}", to_json(ActiveVersion(model, version)))

    @rule(
        model=st.sampled_from(MODELS), tries=st.integers(1, 3), hedge=st.booleans(), fallback=st.sampled_from(VERSIONS)
    )
    def serve(self, model: str, tries: int, hedge: bool, fallback: str) -> None:
        policy = ServingPolicy(model, (fallback,), max_attempts=tries, hedge=hedge)
        self.ask("SetServingPolicy", f"serving/{model}", to_json(policy))

    @rule(model=st.sampled_from(MODELS), version=st.sampled_from(VERSIONS), percent=st.sampled_from((0, 5, 100)))
    def shadow(self, model: str, version: str, percent: int) -> None:
        self.ask("SetShadow", f"shadow/{model}", to_json(ShadowPolicy(model, version, percent)))

    @rule(model=st.sampled_from((*MODELS, "*")), maximum=st.integers(1, 100))
    def constrain(self, model: str, maximum: int) -> None:
        signal = ContextSignal(
            f"limit-{model}", KIND, f"model/{model}", to_json(Constraint("max_batch_size", maximum)), "a file", 1
        )
        self.bench.put("control.context", signal.signal_id, signal)

    @rule(model=st.sampled_from(MODELS), version=st.sampled_from(VERSIONS), slow=st.booleans())
    def hear(self, model: str, version: str, slow: bool) -> None:
        loaded = LoadedModel(model, version, "ab" * 32, "simulated", 9_000.0 if slow else 100.0, 1.0)
        beat = Heartbeat("executor", 0, 1, 1, self.bench.now_us, 0, (loaded,))
        self.bench.put("control.heartbeats", "executor-0", beat)

    @rule(
        model=st.sampled_from(MODELS), version=st.sampled_from(VERSIONS), percent=st.sampled_from((0, 1, 20, 99, 100))
    )
    def try_out(self, model: str, version: str, percent: int) -> None:
        self.ask("SetCanary", f"canary/{model}", to_json(Canary(model, version, percent)))

    @rule(seconds=st.integers(0, 3), held=st.sets(st.sampled_from(VERSIONS)), instance=st.integers(0, 1))
    def hold(self, seconds: int, held: set[str], instance: int) -> None:
        """An executor says which versions it holds, of all models."""
        self.bench.now_us += seconds * SECOND
        loaded = [LoadedModel(model, each, "ab", "simulated", 100.0, 1.0) for model in MODELS for each in sorted(held)]
        beat = Heartbeat("executor", instance, 1, 1, self.bench.now_us, 0, tuple(loaded))
        self.bench.put("control.heartbeats", f"executor-{instance}", beat)

    @rule(model=st.sampled_from(MODELS))
    def somebody_else_plans(self, model: str) -> None:
        """Only the Planner may, whatever the plan says."""
        body = to_json(Plan(model, (VersionWeight("v1.0.0", 100),), 1, 1))
        self.ask("ProposePlan", f"plan/{model}", body, agent="router")

    @rule(agent=st.sampled_from(AGENTS), which=st.integers(0, 9), dies=st.booleans())
    def deliver(self, agent: str, which: int, dies: bool) -> None:
        """One record; who dies behind its journal entry comes back and sends."""
        topics = self.bench.unread(agent)
        if topics:
            self.bench.deliver(agent, topics[which % len(topics)], loses_effects=dies)
        if dies:
            self.bench.restart(agent)

    @rule(agent=st.sampled_from(AGENTS), seconds=st.integers(1, 12))
    def tick(self, agent: str, seconds: int) -> None:
        self.bench.now_us += seconds * SECOND
        self.bench.tick(agent)

    @rule()
    def lose_a_proposal(self) -> None:
        """What a dead producer had under way: the Orchestrator never sees it."""
        at = self.bench.positions.get(("orchestrator", "control.plans"), 0)
        if at < len(self.bench.log.get("control.plans", [])):
            del self.bench.log["control.plans"][-1]

    @rule(at=st.integers(0, 50))
    def repeat_a_proposal(self, at: int) -> None:
        """An old one stands on the topic once more, with its effect id or as anybody's."""
        standing = self.bench.log.get("control.plans", [])
        if standing:
            held = standing[at % len(standing)]
            self.bench.put("control.plans", held.key.decode(), held.value or b"", held.source if at % 2 else "")

    @rule()
    def settle(self) -> None:
        """Time goes by and nothing more happens: memory has what is wanted."""
        self.bench.settle(SETTLE_TICKS)
        view, state = self.bench.view(), self.bench.agents["planner"].state
        for model in MODELS:
            if f"active/{model}" not in view.entries:
                assert plan(view, model) is None
                continue
            served = state.models[model]
            assert plan(view, model) == wanted_plan(state, model, PLANNER.params)
            assert (served.plan_version, served.pending) == (view.entries[f"plan/{model}"].version, None)
            assert served.active == from_json(ActiveVersion, view.entries[f"active/{model}"].body).version

    @invariant()
    def plans_in_memory_can_be_served(self) -> None:
        view = self.bench.view()
        for model in MODELS:
            effective = plan(view, model)
            if effective is None:
                continue
            assert sum(share.weight_percent for share in effective.versions) == 100
            for version in (*[share.version for share in effective.versions], *effective.fallbacks):
                assert model_version(view, model, version) is not None
            assert effective.max_batch_size >= 1
            if effective.shadow is not None:
                assert model_version(view, model, effective.shadow.version) is not None
                assert effective.shadow.version not in [share.version for share in effective.versions]

    @invariant()
    def rows_are_split_as_memory_says(self) -> None:
        stored = self.bench.stored()
        for each in stored[self.judged :]:
            assert list(self.law.take(each.event)) == []
        self.judged = len(stored)

    @invariant()
    def a_plan_is_replaced_only_by_one_that_saw_it(self) -> None:
        versions: dict[str, int] = {}
        for stored in self.bench.stored():
            event = stored.event
            if event.key.startswith("plan/"):
                assert (event.kind, event.agent) == ("PlanMadeEffective", "planner")
                assert event.version == versions.get(event.key, 0) + 1
                versions[event.key] = event.version

    def teardown(self) -> None:
        self.settle()


TestPlan = PlanMachine.TestCase
TestPlan.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

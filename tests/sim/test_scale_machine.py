"""State machine of scaling: the Scaler alone, told much, little, late, or nothing, by a supervisor who may fail.

The rules of ``tests.sim.scale_rules`` hold of everything it does; and where enough is told for long enough, it does
what the policy wants.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agents.scaler import SCALER
from schemas.journal import JournalEntry
from schemas.load import ExecutorLoad, VersionLoad
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import Plan, VersionWeight
from schemas.scaling import BatchBound, Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from schemas.serving import Slo
from schemas.telemetry import Heartbeat, LoadedModel, RouterLoad
from streams.canonical import from_json, to_json
from streams.memory_view import ZERO_HASH
from tests.sim.scale_rules import ScaleRules
from tests.support.agent_bench import CODEC, AgentBench

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

SECOND = 1_000_000
MODELS = st.sampled_from(("alpha", "beta"))


class ScaleMachine(RuleBasedStateMachine):
    """``law`` judges each entry as it is journaled; ``ready``: replicas that the supervisor has."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = AgentBench((SCALER,))
        self.bench.now_us = 1_000 * SECOND
        self.law = ScaleRules(SCALER.params, CODEC.decode)
        self.judged = 0
        self.ready = 1
        for model in ("alpha", "beta"):
            slo = Slo(latency_ms=500, late_ppm=10_000) if model == "alpha" else None
            self.memory(f"plan/{model}", to_json(Plan(model, (VersionWeight("v1.0.0", 100),), 64, 30_000, slo=slo)))

    # Who tells what.

    def memory(self, key: str, body: str | None) -> None:
        """An event of memory, as the Orchestrator writes it."""
        number = self.bench.head.sequence + 1
        self.bench.write(
            MemoryEvent(number, ZERO_HASH, f"c{number}", "cli", "Set", key, number, body, "", (), self.bench.now_us)
        )

    @rule(
        least=st.integers(0, 2), more=st.integers(0, 4), budget=st.sampled_from((0, 3)),
        idle_s=st.sampled_from((5, 60)), vertical=st.sampled_from(((), ("batch",))),
    )  # fmt: skip
    def policy(self, least: int, more: int, budget: int, idle_s: int, vertical: tuple[str, ...]) -> None:
        wanted = ScalingPolicy(
            "executors", least, max(1, least + more), upscale_delay_s=1, downscale_delay_s=6, cooldown_s=4,
            cost_per_replica_milli=1 if budget else 0, budget_milli=budget, idle_s=idle_s,
            vertical=vertical, vertical_gain_percent=1,
        )  # fmt: skip
        if not wanted.problem:
            self.memory("scaling/executors", to_json(wanted))
            self.give()

    @rule(
        role=st.sampled_from(("router", "executor")), instance=st.integers(0, 1), late_s=st.sampled_from((0, 0, 0, 7))
    )
    def beat(self, role: str, instance: int, late_s: int) -> None:
        loaded = tuple(LoadedModel(name, "v1.0.0", "ab" * 32, "cpu", 100.0, 1_000.0) for name in ("alpha", "beta"))
        sent_us = self.bench.now_us - late_s * SECOND
        beat = Heartbeat(role, instance, 1, 1, sent_us, 0, loaded if role == "executor" else ())
        self.bench.put("control.heartbeats", f"{role}-{instance}", beat)
        self.give()

    @rule(model=MODELS, instance=st.integers(0, 1), rate=st.sampled_from((0.0, 50.0, 900.0, 3_000.0)))
    def load(self, model: str, instance: int, rate: float) -> None:
        told = RouterLoad(model, rate, 0, self.bench.now_us, instance=instance, items_per_s=rate)
        self.bench.put("control.load", model, told)
        self.give()

    @rule(model=MODELS, executor=st.integers(0, 1), waiting=st.sampled_from((0, 40, 20_000)))
    def wait_in_executor(self, model: str, executor: int, waiting: int) -> None:
        version = VersionLoad(model, "v1.0.0", 100.0, 1_000.0, 8, False, 0.0, 0, 0, (0, waiting) if waiting else ())
        told = ExecutorLoad(f"executor-{executor}", self.bench.now_us, 0, 1, (version,))
        self.bench.put("control.executor-load", told.executor, told)
        self.give()

    @rule(outcome=st.sampled_from(("done", "failed", "held")))
    def confirm(self, outcome: str) -> None:
        """The supervisor has done what was asked last, or not."""
        actions = self.steps()
        if not actions:
            return
        action = actions[-1]
        self.ready = action.target_replicas if outcome == "done" else self.ready
        if outcome == "done":
            self.memory("replicas/executors", to_json(Replicas("executors", self.ready, action.action_id)))
        told = ScaleConfirmation(action.action_id, "executors", self.ready, outcome, self.bench.now_us)
        self.bench.put("control.scale-confirmations", "executors", told)
        self.give()

    @rule()
    def confirm_vertical(self) -> None:
        """The Orchestrator has taken up what was proposed last."""
        asked = self.proposals()
        if asked:
            bound = from_json(BatchBound, asked[-1].body)
            self.memory(asked[-1].key, to_json(bound) if bound.max_items else None)
            self.give()

    # What happens to it.

    @rule(seconds=st.integers(1, 12))
    def tick(self, seconds: int) -> None:
        """So many ticks of a second each, in which nobody says anything."""
        for _ in range(seconds):
            self.bench.now_us += SECOND
            self.judge(self.bench.tick("scaler"))

    @rule(seconds=st.sampled_from((4, 20, 70)))
    def stand_still(self, seconds: int) -> None:
        """A Scaler that is frozen, or whose broker is away: no tick for so long, and no news."""
        self.bench.now_us += seconds * SECOND
        self.judge(self.bench.tick("scaler"))

    @rule()
    def restart(self) -> None:
        self.bench.restart("scaler")
        self.give()

    @rule(rate=st.sampled_from((0.0, 1_800.0)), least=st.integers(0, 1))
    def all_is_told(self, rate: float, least: int) -> None:
        """Everybody says the same for long enough: it ends where the policy wants it."""
        wanted = ScalingPolicy(
            "executors", least, 4, upscale_delay_s=1, downscale_delay_s=3, cooldown_s=1, idle_s=5,
            vertical=("batch",), vertical_gain_percent=1,
        )  # fmt: skip
        self.memory("scaling/executors", to_json(wanted))
        for second in range(110):  # an action that failed before is over, and its rest
            self.bench.now_us += SECOND
            for role in ("router", "executor"):
                self.beat(role, 0, 0)
            for model in ("alpha", "beta"):
                for instance in (0, 1):
                    self.load(model, instance, rate / 2 if model == "alpha" else 0.0)
                for executor in (0, 1):
                    self.wait_in_executor(model, executor, 40 if rate and second < 20 else 0)
            self.judge(self.bench.tick("scaler"))
            self.confirm("done")
            self.confirm_vertical()
        expected = 4 if rate else least
        last = self.bench.records("control.scale-actions")[-1]
        assert last.target_replicas == expected, last

    # What must hold.

    def steps(self) -> list[ScaleAction]:
        return [each for each in self.bench.records("control.scale-actions") if each.decision != "hold"]

    def proposals(self) -> list[MemoryCommand]:
        return self.bench.records("memory.commands")

    def give(self) -> None:
        """Deliver everything that was said."""
        while topics := self.bench.unread("scaler"):
            self.judge(self.bench.deliver("scaler", topics[0]))

    def judge(self, entries: list[JournalEntry]) -> None:
        for entry in entries:
            assert list(self.law.take(entry)) == []


TestScale = ScaleMachine.TestCase
TestScale.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)

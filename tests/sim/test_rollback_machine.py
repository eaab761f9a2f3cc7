"""State machine of roll-backs: alerts and checks of anybody, people who change versions meanwhile, and time.

The rules of ``tests.sim.rollback_rules`` hold of every event of memory; and a breach of a version that may be rolled
back from is answered by the roll-back in the same decision.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.orchestrator import ORCHESTRATOR
from schemas.known_good import GoodVersion, KnownGood
from schemas.memory import MemoryCommand
from schemas.review import Validation
from schemas.serving import Breaker, ServingPolicy
from schemas.telemetry import Alert
from streams.canonical import to_json
from streams.memory_view import ActiveVersion, active_version, incidents
from tests.sim.rollback_rules import CHECKS, COOLDOWN_US, RollbackRules, document
from tests.support.agent_bench import AgentBench
from tests.support.control import HERE, model_version

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600)]

MODEL = "digits"
VERSIONS = ("v1.0.0", "v1.1.0", "v1.2.0")
SOME = st.sampled_from(VERSIONS)
SECOND = 1_000_000


class RollbackMachine(RuleBasedStateMachine):
    """``law`` has seen the first ``judged`` events."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = AgentBench((ORCHESTRATOR,))
        self.bench.now_us = 10_000 * SECOND
        self.law = RollbackRules()
        self.judged = 0
        self.number = 0
        for version in VERSIONS:
            self.ask("cli", "RegisterModel", f"model/{MODEL}/{version}", to_json(model_version(MODEL, version)))

    def ask(self, agent: str, kind: str, key: str, body: str) -> None:
        """A command, handled at once."""
        self.number += 1
        command = MemoryCommand(f"c{self.number}", agent, kind, key, -1, body, "asked", (), self.bench.now_us)
        self.bench.put("memory.commands", key, command)
        self.bench.settle()

    @rule(version=SOME)
    def activate(self, version: str) -> None:
        self.ask("cli", "ActivateVersion", f"active/{MODEL}", to_json(ActiveVersion(MODEL, version)))

    @rule(version=SOME)
    def activate_and_prove(self, version: str) -> None:
        """A version that serves for a while and proves itself."""
        self.activate(version)
        self.bench.now_us += 60 * SECOND
        self.mark_good(version, 60)

    @rule(version=SOME, age_s=st.integers(0, 100))
    def mark_good(self, version: str, age_s: int) -> None:
        """The Monitor says that a version proved itself, also one that does not serve any more."""
        now_us = self.bench.now_us
        good = KnownGood(MODEL, (GoodVersion(version, "", now_us - age_s * SECOND, now_us, 500),))
        self.ask("monitor", "MarkVersionGood", f"good/{MODEL}", to_json(good))

    @rule(auto=st.booleans())
    def policy(self, auto: bool) -> None:
        self.ask("cli", "SetServingPolicy", f"serving/{MODEL}", to_json(ServingPolicy(MODEL, auto_rollback=auto)))

    @rule(version=SOME, opens=st.booleans())
    def breaker(self, version: str, opens: bool) -> None:
        key = f"breaker/{MODEL}/{version}"
        body = to_json(Breaker(MODEL, version, "open", "by chance", self.bench.now_us, 15 * SECOND)) if opens else ""
        self.ask("monitor", "OpenBreaker" if opens else "CloseBreaker", key, body)

    @rule(
        version=st.sampled_from((*VERSIONS, "")),
        kind=st.sampled_from(("slo_burn", "slo_burn", "breaker_open", "drift", "process_silent")),
        severity=st.sampled_from(("critical", "critical", "warning")),
        resolved=st.sampled_from((False, False, True)),
        again=st.booleans(),
    )
    def alert(self, version: str, kind: str, severity: str, resolved: bool, again: bool) -> None:
        """An alert, that may stand on its topic twice."""
        self.number += 1
        told = Alert(
            f"{kind}/{self.number}", kind, MODEL, severity, "It is bad.", "{}", resolved, self.bench.now_us, (HERE,),
            MODEL, version,
        )  # fmt: skip
        for _ in range(1 + again):
            self.bench.put("control.alerts", MODEL, told)
        self.bench.settle()

    @rule(
        version=SOME,
        check=st.sampled_from((*sorted(CHECKS), "drift_confirmed", "schema_statistics")),
        outcome=st.sampled_from(("passed", "passed", "failed", "not_run")),
        answers=st.booleans(),
    )
    def validate(self, version: str, check: str, outcome: str, answers: bool) -> None:
        """A check, that answers the roll-back or nothing."""
        self.number += 1
        entry = self.bench.view().entries.get(f"rollback/{MODEL}")
        identity = f"rollback/{MODEL}/1" if entry is None else document(entry.body)["rollback_id"]
        told = Validation(
            f"val{self.number}", check, MODEL, version, outcome == "passed", "Measured.", self.bench.now_us,
            outcome=outcome, num_samples=100, evidence="{}", alert_id=identity if answers else "",
        )  # fmt: skip
        self.bench.put("control.validations", MODEL, told)
        self.bench.settle()

    @rule(seconds=st.sampled_from((1, 30, COOLDOWN_US // SECOND)))
    def wait(self, seconds: int) -> None:
        self.bench.now_us += seconds * SECOND

    @rule()
    def restart(self) -> None:
        self.bench.restart("orchestrator")
        self.bench.settle()

    @rule(version=SOME, good=SOME)
    def a_breach_is_answered_at_once(self, version: str, good: str) -> None:
        """Where the rules allow it, the roll-back stands as soon as the alert was heard.

        Not where a person took a step back to ``version``: what they left proved nothing any more.
        """
        if version == good:
            return
        self.policy(True)
        for each in VERSIONS:
            self.breaker(each, False)
        self.activate_and_prove(good)
        self.wait(COOLDOWN_US // SECOND)
        self.activate(version)
        view = self.bench.view()
        entry = view.entries.get(f"good/{MODEL}")
        proved = [] if entry is None else [each["version"] for each in document(entry.body)["versions"]]
        self.alert(version, "slo_burn", "critical", False, False)
        after = active_version(self.bench.view(), MODEL)
        if version not in proved and good in proved:
            assert after == good
            assert any(each.kind == "rollback" for each in incidents(self.bench.view()))
        elif version in proved:
            assert after == version

    @rule()
    def a_second_breach_is_left_to_people(self) -> None:
        """Right behind a roll-back another version breaks its promise."""
        self.a_breach_is_answered_at_once("v1.1.0", "v1.0.0")
        self.activate("v1.2.0")
        self.alert("v1.2.0", "slo_burn", "critical", False, False)

    @invariant()
    def rules_hold(self) -> None:
        stored = self.bench.stored()
        for each in stored[self.judged :]:
            assert list(self.law.take(each.event)) == []
        self.judged = len(stored)
        open_ones = [each for each in incidents(self.bench.view()) if each.kind == "rollback"]
        assert len(open_ones) <= 1
        told = [each for each in self.bench.records("control.escalations") if "is rolled back from" in each.reason]
        assert len({each.escalation_id for each in told}) == self.law.num_rollbacks


TestRollback = RollbackMachine.TestCase
TestRollback.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

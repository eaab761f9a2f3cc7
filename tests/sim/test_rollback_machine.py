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
from schemas.cache import CachePolicy
from schemas.known_good import Activation, Configuration, GoodVersion, KnownGood
from schemas.memory import MemoryCommand
from schemas.review import Validation
from schemas.serving import Breaker, ServingPolicy, Slo
from schemas.telemetry import Alert
from streams.canonical import to_json
from streams.memory_view import (
    ActiveVersion,
    active_version,
    cache_policy,
    incidents,
    known_good,
    serving_policy,
)
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
        self.before = Configuration()
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

    @rule(
        version=SOME, age_s=st.integers(0, 100), how=st.sampled_from(("as it is", "as it is", "as it was", "unknown"))
    )
    def mark_good(self, version: str, age_s: int, how: str = "as it is") -> None:
        """The Monitor says that a version proved itself, also one that does not serve any more, or not so."""
        self.look()
        now_us = self.bench.now_us
        changed_us = self.law.changed_us.get(MODEL, 0)
        since_us = max(now_us - age_s * SECOND, changed_us)
        served = {"as it is": self.served(), "as it was": self.before}.get(how)
        if how == "as it was" and self.before.differences(self.served()):
            since_us = changed_us - 1
        good = KnownGood(MODEL, (GoodVersion(version, "", since_us, now_us, 500, served),))
        self.ask("monitor", "MarkVersionGood", f"good/{MODEL}", to_json(good))

    def served(self) -> Configuration:
        """How the model is served now."""
        view = self.bench.view()
        return Configuration(serving_policy(view, MODEL), cache_policy(view, MODEL))

    @rule(
        auto=st.sampled_from((True, True, False)),
        tries=st.integers(1, 3),
        hedge=st.booleans(),
        slo=st.sampled_from((None, Slo(error_ppm=1_000))),
    )
    def policy(self, auto: bool, tries: int = 2, hedge: bool = False, slo: Slo | None = None) -> None:
        self.before = self.served()
        wanted = ServingPolicy(MODEL, max_attempts=tries, hedge=hedge, slo=slo, auto_rollback=auto)
        self.ask("cli", "SetServingPolicy", f"serving/{MODEL}", to_json(wanted))

    @rule(enabled=st.booleans(), ttl_s=st.sampled_from((60, 600)), flush=st.booleans())
    def cache(self, enabled: bool, ttl_s: int, flush: bool) -> None:
        self.before = self.served()
        epoch = 1 if self.before.cache is None else self.before.cache.epoch + flush
        self.ask("cli", "SetCachePolicy", f"cache/{MODEL}", to_json(CachePolicy(MODEL, enabled, epoch, ttl_s)))

    @rule(version=SOME)
    def go_back_by_hand(self, version: str) -> None:
        """A person wants a version as it proved itself, or as it never did."""
        known = known_good(self.bench.view(), MODEL)
        good = None if known is None else known.of(version)
        how = self.before if good is None else good.configuration
        self.ask("cli", "ActivateVersion", f"active/{MODEL}", to_json(Activation(MODEL, version, how)))

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

    @rule(version=SOME, tries=st.integers(1, 3))
    def a_breach_after_another_policy_puts_it_back(self, version: str, tries: int) -> None:
        """The version that proved itself stays, and is served as it was then; what it promises stays, too."""
        self.activate(version)
        self.policy(True)
        for each in VERSIONS:
            self.breaker(each, False)
        self.mark_good(version, 0)
        good = self.served()
        self.wait(COOLDOWN_US // SECOND)
        self.policy(True, tries, True, Slo(error_ppm=500))
        self.cache(True, 77, True)
        self.alert(version, "slo_burn", "critical", False, False)
        assert active_version(self.bench.view(), MODEL) == version
        assert good.differences(self.served()) == ()
        serving = self.served().serving
        assert serving is not None
        assert serving.slo == Slo(error_ppm=500)

    @rule()
    def a_second_breach_is_left_to_people(self) -> None:
        """Right behind a roll-back another version breaks its promise."""
        self.a_breach_is_answered_at_once("v1.1.0", "v1.0.0")
        self.activate("v1.2.0")
        self.alert("v1.2.0", "slo_burn", "critical", False, False)

    def look(self) -> None:
        """Judge what came to memory since the last look."""
        stored = self.bench.stored()
        for each in stored[self.judged :]:
            assert list(self.law.take(each.event)) == []
        self.judged = len(stored)

    @invariant()
    def rules_hold(self) -> None:
        self.look()
        open_ones = [each for each in incidents(self.bench.view()) if each.kind == "rollback"]
        assert len(open_ones) <= 1
        escalations = self.bench.records("control.escalations")
        told = [
            each for each in escalations if " is rolled back from " in each.reason or " is served as " in each.reason
        ]
        assert len({each.escalation_id for each in told}) == self.law.num_rollbacks


TestRollback = RollbackMachine.TestCase
TestRollback.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

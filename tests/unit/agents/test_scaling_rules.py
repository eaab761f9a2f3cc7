"""Which scaling policies come to stand in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.orchestrator import judge
from agents.verdict import Change, Refusal, State
from schemas.memory import MemoryCommand
from schemas.scaling import ScalingPolicy
from streams.canonical import to_json

POLICY = ScalingPolicy("executors", 1, 4)


def command(body: str, key: str = "scaling/executors", agent: str = "cli") -> MemoryCommand:
    return MemoryCommand("c1", agent, "SetScalingPolicy", key, -1, body, "", (), 5)


def test_a_policy_stands() -> None:
    body = to_json(POLICY)
    assert judge(State(), command(body)) == (Change("ScalingPolicySet", "scaling/executors", body),)
    assert judge(State(), command('{"pool":"executors"}')) == (
        Change("ScalingPolicySet", "scaling/executors", to_json(ScalingPolicy("executors"))),
    )
    slow = to_json(replace(POLICY, pool="executors-slow"))
    given = command(slow, key="scaling/executors-slow")
    assert judge(State(), given) == (Change("ScalingPolicySet", "scaling/executors-slow", slow),)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (command("{}"), "invalid_body"),
        (command(to_json(POLICY), agent="scaler"), "not_permitted"),
        (command(to_json(POLICY), key="scaling/others"), "invalid_body"),
        (command(to_json(replace(POLICY, pool="others")), key="scaling/others"), "unknown_pool"),
        (command(to_json(replace(POLICY, min_replicas=5))), "invalid_policy"),
    ],
)
def test_others_are_refused(given: MemoryCommand, refusal: str) -> None:
    verdict = judge(State(), given)
    assert isinstance(verdict, Refusal)
    assert verdict.code == refusal


def test_a_refusal_says_what_is_wrong() -> None:
    verdict = judge(State(), command(to_json(replace(POLICY, drain_s=0))))
    assert verdict == Refusal("invalid_policy", "A backlog drains in 1 to 86400 seconds, not 0.")

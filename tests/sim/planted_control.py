"""Bugs of control agents, each a small change of the real code, and the rules that they break in simulated worlds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import agents.approval
import agents.monitor
import agents.orchestrator
import agents.pool_look
import agents.presence
import agents.rollback
from agents.configuration import standing
from schemas.known_good import GoodVersion, KnownGood
from schemas.serving import ServingPolicy
from streams.canonical import from_json, to_json
from tests.sim.agent_invariants import ALERTED, LISTENED
from tests.sim.planting import Planted
from tests.sim.profile import ALONE
from tests.sim.review_rules import APPROVED, CUSTODY, IN_TIME, USED_ONCE
from tests.sim.rollback_rules import GOOD, PUT_BACK
from tests.sim.scale_rules import BOUNDED, SEEN

_agents: Any = agents
_outcome = agents.approval.outcome
_listen = agents.monitor._listen
_silent = agents.presence.judge
_put_back = _agents.rollback.put_back
_mark = agents.rollback.mark_version_good


def _sees_enough(*_: Any) -> str:
    """Nothing keeps the Scaler from acting: who is not heard carries nothing."""
    return ""


def _any_other_version(state: Any, case: Any, active: str, now_us: int) -> Any:
    del now_us
    others = [key.rpartition("/")[2] for key in sorted(state.values) if key.startswith(f"model/{case.model}/")]
    return GoodVersion(next((each for each in others if each != active), active), "", 0, 0, 0)


def _a_policy_of_its_own(state: Any, model: str, good: Any) -> Any:
    """What is put back is not what was in force."""
    return _put_back(state, model, replace(good, serving=ServingPolicy(model, max_attempts=5)))


def notes_what_stands(state: Any, command: Any) -> Any:
    """What the Monitor says of how rows were served is not looked at: what stands now counts as good."""
    marked = from_json(KnownGood, command.body)
    entry = replace(marked.versions[0], configuration=standing(state, marked.model))
    return _mark(state, replace(command, body=to_json(KnownGood(marked.model, (entry,)))))


def _takes_it_again(state: Any, decision: Any, *given: Any) -> Any:
    """A decided review stays open, and that it was decided is not looked at: an approval holds twice."""
    values = {key: value for key, value in state.values.items() if key != f"decision/{decision.review_id}"}
    steps, told = _outcome(replace(state, values=values), decision, *given)
    return (steps[:2] if len(steps) > 1 else steps), told


def _never_pauses(state: Any, now_us: int, params: Any, *, is_tick: bool) -> Any:
    return replace(_listen(state, now_us, params, is_tick=is_tick), listening_us=0)


def _forgets_what_it_raised(processes: Any, *times: Any) -> Any:
    return processes, _silent(processes, *times)[1]


def _one_more(before: Any, after: Any, need: Any, policy: Any, current: int, *_: Any) -> int:
    return current + 1


def _trusts_the_reviewer(*_: Any) -> None:
    """The Orchestrator believes whatever calls itself a decision."""


def _takes_any_signature(*_: Any) -> None:
    """The Orchestrator does not look whose signature stands under a change of who may sign."""


CALM: Final = {
    "control": True,
    "breakers": True,
    "report": 0.12,
    "fault": 0.003,
    "refusal": 0.0,
    "delivery": 0.3,
    "max_skew_us": 0,
    "weights": {"crash": 1.0, "freeze": 1.0, "rebalance": 1.0},
    "production": False,
    **ALONE,
}
_SCALING: Final = {**CALM, "focus": "scaling"}
_REVIEWS: Final = {**CALM, "focus": "reviews", "production": True}
_ROLLBACKS: Final = {**CALM, "focus": "roll-backs"}


CONTROL: Final[dict[str, Planted]] = {
    "replicas are lowered on missing data": Planted(agents.pool_look, "_blind", _sees_enough, (SEEN,), _SCALING),
    "replicas go up for ever": Planted(agents.pool_look, "step_of", _one_more, (BOUNDED,), _SCALING),
    "a version that never proved itself is rolled back to": Planted(
        agents.rollback, "_target", _any_other_version, (GOOD,), _ROLLBACKS
    ),
    "a policy that was never good is put back": Planted(
        agents.rollback, "put_back", _a_policy_of_its_own, (PUT_BACK,), _ROLLBACKS
    ),
    "an approval is used again": Planted(agents.orchestrator, "outcome", _takes_it_again, (USED_ONCE,), _REVIEWS),
    "nobody checks who approved": Planted(
        agents.approval, "refused_vote", _trusts_the_reviewer, (APPROVED, IN_TIME), _REVIEWS
    ),
    "a stranger's revocation passes": Planted(
        agents.approval, "refused_signature", _takes_any_signature, (CUSTODY,), _REVIEWS
    ),
    "the Monitor takes its own pause for the others' silence": Planted(
        agents.monitor, "_listen", _never_pauses, (LISTENED,), CALM
    ),
    "an alert is raised as long as it stands": Planted(
        agents.presence, "judge", _forgets_what_it_raised, (ALERTED,), CALM
    ),
}

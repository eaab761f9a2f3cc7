"""The control agents of simulated worlds: those that ``infra`` composes, with times that are reached within a world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from agents.constraint import Constraint, Rule
from agents.known_good import GoodParams
from agents.orchestrator import ORCHESTRATOR
from agents.planner import PLANNER
from agents.researcher import Params as ResearcherParams
from infra.control_plane import control_specs
from infra.settings import Settings
from streams.agent import AgentSpec

SECOND: Final = 1_000_000
SETTINGS: Final = Settings.model_construct()
TIMEOUT_MS: Final = 5_000_000
"""Budget of a request that names none: far more than a world lasts."""
RULES: Final = (
    Rule("contract", "model/*", Constraint("max_batch_size", 8)),
    Rule("beta-timeout", "model/beta", Constraint("timeout_ms", 4_000_000)),
)
MONITOR: Final = {
    "silent_us": 5 * SECOND,
    "pause_us": 3 * SECOND,
    "quiet_us": 10 * SECOND,
    "bound_us": 8 * SECOND,
    "good": GoodParams(min_rows=20, min_us=2 * SECOND, fresh_us=20 * SECOND, loading_us=0, retry_us=5 * SECOND),
}
QUICK: Final[dict[str, Callable[[Any], Any]]] = {
    "researcher": lambda _: ResearcherParams(RULES),
    "planner": lambda params: replace(params, timeout_ms=TIMEOUT_MS),
    "monitor": lambda params: replace(params, **MONITOR),
    "scaler": lambda params: replace(
        params,
        pause_us=3 * SECOND,
        retry_us=3 * SECOND,
        picture=replace(params.picture, silent_us=4 * SECOND, forget_us=15 * SECOND),
    ),
}
"""Other parameters, per agent."""


def _specs() -> tuple[AgentSpec, ...]:
    found = []
    for spec in control_specs(SETTINGS):
        quick = QUICK.get(spec.name)
        found.append(spec if quick is None else replace(spec, params=quick(spec.params)))
    return tuple(found)


CONTROL: Final = _specs()
"""The agents of the control process."""
WHOLE: Final = (ORCHESTRATOR, *CONTROL)
SMALL: Final = (ORCHESTRATOR, replace(PLANNER, params=QUICK["planner"](PLANNER.params)))
"""The agents of a world whose control plane only plans."""


def agents_of(whole: bool) -> tuple[AgentSpec, ...]:
    """The control agents that run in a world."""
    return WHOLE if whole else SMALL

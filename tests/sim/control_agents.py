"""The control agents of simulated worlds: those that ``infra`` composes, with times that are reached within a world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from agents.constraint import Constraint, Rule
from agents.orchestrator import ORCHESTRATOR
from agents.planner import PLANNER
from agents.researcher import Params as ResearcherParams
from infra.control_plane import control_specs
from infra.settings import Settings
from streams.agent import AgentSpec

SECOND: Final = 1_000_000
SETTINGS: Final = Settings.model_construct()
RULES: Final = (
    Rule("contract", "model/*", Constraint("max_batch_size", 8)),
    Rule("beta-timeout", "model/beta", Constraint("timeout_ms", 20_000)),
)
QUICK: Final[dict[str, dict[str, Any]]] = {
    "researcher": {"params": ResearcherParams(RULES)},
}
"""What is set otherwise here, per agent."""


def _specs() -> tuple[AgentSpec, ...]:
    return tuple(replace(spec, **QUICK.get(spec.name, {})) for spec in control_specs(SETTINGS))


CONTROL: Final = _specs()
"""The agents of the control process."""
WHOLE: Final = (ORCHESTRATOR, *CONTROL)
SMALL: Final = (ORCHESTRATOR, PLANNER)
"""The agents of a world whose control plane only plans."""


def agents_of(whole: bool) -> tuple[AgentSpec, ...]:
    """The control agents that run in a world."""
    return WHOLE if whole else SMALL

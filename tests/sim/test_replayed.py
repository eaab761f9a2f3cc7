"""A successor that forgets what its journal says is found by the replay of the journal, at its first snapshot."""

from __future__ import annotations

from typing import Any

import pytest

import streams.control.tenure
from streams.control.journal import restore
from tests.sim.control_invariants import REPLAYED
from tests.sim.planted import Planted, plant
from tests.sim.test_planted_bugs import quiet, seeds, world

pytestmark = [pytest.mark.sim, pytest.mark.timeout(600), pytest.mark.usefixtures(quiet.__name__)]


def _forgets_the_state(spec: Any, codec: Any, entries: Any) -> Any:
    agent, divergences = restore(spec, codec, entries)
    agent.state = spec.initial(spec.params)
    return agent, divergences


def test_a_state_that_is_not_folded_is_found() -> None:
    module: Any = streams.control.tenure
    bug = Planted(module, "restore", _forgets_the_state, (REPLAYED,))
    for seed in seeds(bug):
        with plant(bug):
            report = world(seed, bug)
        if report.violation is not None:
            break
    assert report.violation is not None
    assert report.violation.invariant == REPLAYED, report.text()
    assert "the state differs at " in str(report.violation)

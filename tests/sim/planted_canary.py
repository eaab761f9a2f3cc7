"""Bugs of canaries, each a small change of the real code, and the rules that they break in simulated worlds."""

from __future__ import annotations

import zlib
from typing import Any, Final

import agents.canary
import agents.model_rules
import agents.route
from schemas.plan import Plan
from tests.sim.canary_rules import GIVEN, OVER, SPLIT, STICKY
from tests.sim.planting import Planted
from tests.sim.profile import FOREVER_US


def _by_the_weights(effective: Plan, key: bytes) -> str:
    """The share enters into the hash, so that another share is another split."""
    weights = bytes(share.weight_percent for share in effective.versions)
    point = zlib.crc32(key + weights, zlib.crc32(effective.model.encode())) % 100
    for share in effective.versions:
        point -= share.weight_percent
        if point < 0:
            return share.version
    return effective.versions[-1].version


def _nobody_minds(*_: Any) -> None:
    """Any plan splits rows as it likes."""


def _goes_on(state: Any, changes: Any) -> Any:
    return changes


def _in_turn(effective: Plan, key: bytes) -> str:
    """Every fifth row tries a version that was registered once."""
    return "v1.3.0" if zlib.crc32(key) % 5 == 0 else effective.versions[0].version


_TRIED: Final = {
    "canaries": True, "breakers": False, "operator": 0.03, "request": 0.1, "warm_up": 1_000, "rate_per_s": 1e6,
    "give_up_us": FOREVER_US, "fault": 0.003, "max_skew_us": 0, "bursts": (64,), "lag": 0.05, "delivery": 0.4,
}  # fmt: skip

CANARIES: Final[dict[str, Planted]] = {
    "a larger share of a canary is other keys": Planted(
        agents.route, "version_for", _by_the_weights, (STICKY,), _TRIED
    ),
    "rows of a split go where no plan says": Planted(agents.route, "version_for", _in_turn, (GIVEN,), _TRIED),
    "a plan of before gives rows to a canary that was taken back": Planted(
        agents.model_rules, "refused_plan", _nobody_minds, (SPLIT,), {**_TRIED, "request": 0.02}
    ),
    "a canary goes on beside another active version": Planted(
        agents.canary, "with_ends", _goes_on, (OVER,), {**_TRIED, "breakers": True}
    ),
}

"""What executors hold beside what plans name."""

from __future__ import annotations

import pytest

from executors.stand_by import stand_by
from schemas.canary import Canary
from schemas.known_good import GoodVersion, KnownGood
from tests.support.frames import memory

GOOD = KnownGood("digits", (GoodVersion("v1.0.0", "", 1, 2, 3), GoodVersion("v0.9.0", "", 1, 2, 3)))


@pytest.mark.parametrize(
    ("facts", "serving", "held"),
    [
        ((), ["v2.0.0"], ()),
        ((GOOD,), ["v2.0.0"], ("v1.0.0",)),
        ((GOOD,), ["v1.0.0"], ()),
        ((Canary("digits", "v3.0.0", 5),), ["v1.0.0"], ("v3.0.0",)),
        ((Canary("digits", "v3.0.0", 0),), ["v1.0.0"], ()),
        ((Canary("digits", "v3.0.0", 5), GOOD), ["v2.0.0", "v3.0.0"], ("v3.0.0", "v1.0.0")),
        ((Canary("other", "v3.0.0", 5),), ["v1.0.0"], ()),
    ],
)
def test_canaries_and_what_a_roll_back_goes_to(
    facts: tuple[Canary | KnownGood, ...], serving: list[str], held: tuple[str, ...]
) -> None:
    assert stand_by(memory(*facts), "digits", serving) == held

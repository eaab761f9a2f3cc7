"""What memory holds of a canary."""

from __future__ import annotations

from schemas.canary import MOST_PERCENT, Canary
from streams.canonical import from_json, to_json


def test_a_canary_comes_back_from_memory() -> None:
    canary = Canary("digits", "v2.0.0", MOST_PERCENT)
    assert to_json(canary) == '{"model":"digits","version":"v2.0.0","weight_percent":99}'
    assert from_json(Canary, to_json(canary)) == canary

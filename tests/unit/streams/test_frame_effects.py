"""Effects are plain values: equal when they say the same, and not to be changed."""

from __future__ import annotations

import dataclasses

import pytest

from streams import frame_effects
from streams.frame_effects import Answer, Defer, ScanRequests, SendFrame
from tests.support.frames import T, frame, row


def test_equal_effects_are_equal() -> None:
    made = frame([row(1)])
    assert SendFrame("inference.routed", 0, made) == SendFrame("inference.routed", 0, frame([row(1)]))
    assert Defer(made, T) != Defer(made, T + 1)
    assert Answer(made, T).reaped is False
    assert ScanRequests(1, 5, T).before_us == T


@pytest.mark.parametrize(
    "name", ["SendFrame", "Defer", "Answer", "Confirmed", "WriteCheckpoint", "ScanRequests", "Scanned"]
)
def test_effects_are_frozen_and_slotted(name: str) -> None:
    effect = getattr(frame_effects, name)
    assert dataclasses.is_dataclass(effect)
    assert effect.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(effect)

"""What an edge refuses is told per model while there is some, and once as zero."""

from __future__ import annotations

from schemas.telemetry import RouterLoad
from streams.edge.refused_load import RefusedLoad

S = 1_000_000


def test_refusals_by_model_and_then_a_zero() -> None:
    load = RefusedLoad(0)
    assert load.close(2, S) == []
    for items in (1, 3, 4):
        load.add("digits", items)
    load.add("other", 1)
    assert load.close(2, 3 * S) == [
        ("control.load", RouterLoad("digits", 0.0, 0, 3 * S, 2, 4.0, 1.5, "edge")),
        ("control.load", RouterLoad("other", 0.0, 0, 3 * S, 2, 0.5, 0.5, "edge")),
    ]
    load.add("other", 1)
    assert load.close(2, 4 * S) == [
        ("control.load", RouterLoad("digits", 0.0, 0, 4 * S, 2, 0.0, 0.0, "edge")),
        ("control.load", RouterLoad("other", 0.0, 0, 4 * S, 2, 1.0, 1.0, "edge")),
    ]
    assert [record.model for _, record in load.close(2, 5 * S)] == ["other"]
    assert load.close(2, 6 * S) == []

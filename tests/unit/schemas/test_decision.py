"""The record of a routing decision mirrors its schema file."""

from __future__ import annotations

from schemas.decision import RoutingDecision
from tests.support.schema_mirror import assert_mirrors


def test_mirrors_its_schema() -> None:
    assert_mirrors(RoutingDecision)

"""The records of schemas.telemetry and their schema files are the same contract."""

from __future__ import annotations

import itertools

import pytest

from schemas import telemetry
from streams.codec import SCHEMA_TEXTS
from tests.support.schema_mirror import assert_mirrors, records_of


@pytest.mark.parametrize("cls", records_of(telemetry))
def test_mirrors_its_schema(cls: type) -> None:
    assert_mirrors(cls)


def test_the_bounds_of_latencies_rise_and_are_those_that_the_schema_names() -> None:
    bounds = telemetry.LATENCY_BOUNDS_MS
    assert list(bounds) == sorted(set(bounds))
    assert (bounds[:9], bounds[-1], len(bounds)) == ((1, 2, 3, 4, 5, 6, 8, 10, 12), 60_000, 46)
    assert all(high <= 2 * low for low, high in itertools.pairwise(bounds))
    assert "1 2 3 4 5 6 8 10 12 15 20 25 30 40 50 60 80, then tenfold, to 60000" in SCHEMA_TEXTS["Telemetry"]

"""Coordinates order by topic, partition and offset."""

from __future__ import annotations

from schemas.coordinate import Coordinate, Offset, Partition, RecordCoordinate
from tests.support.schema_mirror import assert_mirrors


def test_a_cause_mirrors_its_schema() -> None:
    assert_mirrors(RecordCoordinate)


def test_requests_sort_by_partition_then_offset() -> None:
    early = Coordinate(b"t", Partition(0), Offset(9))
    late = Coordinate(b"t", Partition(1), Offset(2))
    assert sorted([late, early]) == [early, late]
    assert len({early, Coordinate(b"t", Partition(0), Offset(9))}) == 1

"""References: what stands in memory of the rows a version was released for."""

from __future__ import annotations

from schemas.reference import Measure, Reference, SampledTensor
from streams.canonical import from_json, to_json

FLAT = Measure("x[1]", "element", 1, (), (60,), 0, 2.0, 2.0, 2.0, 0.0)
SPREAD = Measure("x[0]", "element", 0, (0.5, 1.5), (10, 30, 18), 2, -1.0, 3.0, 1.0, 0.5)
REFERENCE = Reference(
    "digits", "v1.0.0", 60,
    (SampledTensor("x", False, 2, 1, (SPREAD, FLAT)), SampledTensor("y", True, 1, 1, (SPREAD,))), "rows.npz",
)  # fmt: skip


def test_a_reference_comes_back_also_from_a_later_release() -> None:
    assert from_json(Reference, to_json(REFERENCE)) == REFERENCE
    later = to_json(REFERENCE).replace('"source"', '"region":"eu","source"')
    assert from_json(Reference, later, newer=True) == REFERENCE


def test_measures_are_those_of_all_tensors_in_order() -> None:
    assert [measure.name for measure in REFERENCE.measures] == ["x[0]", "x[1]", "x[0]"]


def test_shifts_are_told_in_deviations_and_of_what_never_varied_as_they_are() -> None:
    assert (SPREAD.scale, FLAT.scale) == (0.5, 1.0)

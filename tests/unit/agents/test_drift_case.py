"""Rows beside their reference: what is called drift and bad data, and what is chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from agents.drift_case import SHOWN, Case, DriftParams, compared
from executors.reference import make_reference
from executors.tally import CAPACITY, TensorTally
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import Reference
from schemas.statistics import MeasureCounts
from streams.tensors import narrowed
from tests.support import drift

PARAMS = DriftParams()
REFERENCE = drift.reference()


def case(inputs: Any, params: DriftParams = PARAMS) -> Case:
    return compared(REFERENCE, drift.told(REFERENCE, inputs, 10).measures, params)


def test_rows_of_the_same_distribution_are_settled_and_sound() -> None:
    for seed in range(40):
        found = case(drift.rows(300, seed))
        assert found.drifting == found.bad == ()
        assert (found.is_drift, found.is_settled, found.is_sound) == (False, True, True)


@pytest.mark.parametrize(("shift", "scale"), [(1.0, 1.0), (-0.8, 1.0), (0.0, 2.0), (0.0, 0.4)])
def test_shifted_and_scaled_rows_drift(shift: float, scale: float) -> None:
    found = case(drift.rows(300, 1, shift, scale))
    assert found.is_drift
    assert not found.is_settled
    assert {each.name for each in found.drifting} >= {f"x[{place}]" for place in range(drift.WIDTH)}


def test_the_mean_shift_is_in_deviations_of_the_reference() -> None:
    first = case(drift.rows(2_000, 2, shift=0.5)).measures[0]
    assert first.mean_shift == pytest.approx(0.5, abs=0.08)


def test_ks_and_its_chance_are_near_scipys_on_the_values() -> None:
    inputs, before = drift.rows(400, 3, shift=0.4), drift.rows(1_000, 99)
    for place in range(drift.WIDTH):
        found = case(inputs).measures[place]
        exact = stats.ks_2samp(inputs[:, place], before[:, place])
        assert exact.statistic - 0.06 < found.ks <= exact.statistic + 1e-4
        assert found.ks_p < 0.001


def test_one_input_of_many_is_not_drift_and_an_output_is() -> None:
    inputs = drift.rows(400, 4)
    inputs[:, 7] += 3
    strict = DriftParams(share_percent=40)
    found = case(inputs, strict)
    assert not found.is_drift
    assert "x[7]" in {each.name for each in found.drifting}
    assert case(inputs).is_drift  # a tenth of ten is one
    outputs = compared(REFERENCE, drift.told(REFERENCE, inputs, 10).measures, strict)
    assert not outputs.is_drift
    inputs[:, 0] += 3  # an element that the outputs show
    assert case(inputs, DriftParams(share_percent=100)).is_drift


def test_a_large_psi_of_few_rows_is_chance() -> None:
    found = [case(drift.rows(25, seed)) for seed in range(30)]
    assert any(each.psi >= PARAMS.psi for one in found for each in one.measures)
    assert not any(one.is_drift for one in found)


def test_missing_and_outside_values_are_bad_data() -> None:
    inputs = drift.rows(400, 5)
    inputs[:30, 2] = np.nan
    found = case(inputs)
    assert [(each.name, each.missing_percent) for each in found.bad] == [("x[2]", 7.5)]
    assert not found.is_sound
    inputs = drift.rows(400, 6)
    inputs[:50, 3] = 99
    found = case(inputs)
    assert [(each.name, each.outside_percent >= 12.5) for each in found.bad] == [("x[3]", True)]
    assert {"x[3]"} <= {each.name for each in found.worst}
    inputs[25:50, 3] = 0
    assert (case(inputs).bad, case(inputs).is_sound) == ((), False)


def test_the_worst_come_first_and_are_few() -> None:
    inputs = drift.rows(400, 7)
    inputs += np.arange(drift.WIDTH, dtype=np.float32) / 4
    worst = case(inputs).worst
    assert len(worst) == SHOWN
    assert [each.psi for each in worst] == sorted([each.psi for each in worst], reverse=True)


def test_without_rows_nothing_is_told() -> None:
    found = case(drift.rows(0))
    assert {(each.psi, each.ks, each.ks_p, each.mean_shift) for each in found.measures} == {(0.0, 0.0, 1.0, 0.0)}
    assert not found.is_drift


def counted(of: Reference, arrays: dict[str, Any]) -> Case:
    """The case of rows that are looked at as an executor does."""
    counts: list[MeasureCounts] = []
    for tensor in of.tensors:
        tally = TensorTally(tensor)
        for first in range(0, len(arrays[tensor.name]), CAPACITY):
            tally.add(arrays[tensor.name], slice(first, first + CAPACITY))
        counts += tally.take()
    return compared(of, tuple(counts), PARAMS)


def words(seed: int, chances: tuple[float, ...], num_rows: int = 300) -> dict[str, Any]:
    """Rows of one text: five-letter names, of which each comes as often as is said."""
    names = np.array([f"town{number}" for number in range(len(chances))], object)
    return {"word": np.random.default_rng(seed).choice(names, num_rows, p=chances)}


def test_texts_drift_where_they_come_in_another_mixture_and_not_by_chance() -> None:
    specs, usual = (TensorSpec("word", "BYTES", ()),), (0.4, 0.3, 0.2, 0.1, 0.0)
    of = make_reference(ModelVersion("m-1", "v1.0.0", "ab" * 32, 1, specs, ()), [(words(99, usual, 1_000), {})], "")
    for seed in range(40):
        assert not counted(of, words(seed, usual)).is_drift
    found = counted(of, words(1, (0.1, 0.2, 0.3, 0.4, 0.0)))
    assert [each.name for each in found.drifting] == ["word[0].bucket"]  # all are of one length
    assert found.is_drift
    assert counted(of, words(2, (0.3, 0.25, 0.15, 0.0, 0.3))).is_drift  # a text that never came before
    longer = {"word": np.array([f"{word}{word}" for word in words(3, usual)["word"].tolist()], object)}
    assert {each.name for each in counted(of, longer).drifting} >= {"word[0].length"}


def test_texts_of_which_hardly_one_comes_twice_are_no_drift() -> None:
    specs = (TensorSpec("word", "BYTES", ()),)
    rng = np.random.default_rng(8)

    def unique(num_rows: int) -> dict[str, Any]:
        return {"word": np.array([f"{number:010d}" for number in rng.integers(0, 10**10, num_rows)], object)}

    of = make_reference(ModelVersion("m-1", "v1.0.0", "ab" * 32, 1, specs, ()), [(unique(1_000), {})], "")
    assert not any(counted(of, unique(200)).is_drift for _ in range(40))


def test_longer_rows_of_free_axes_drift_and_shuffled_ones_do_not() -> None:
    specs = (TensorSpec("x", "BF16", (-1,)),)
    facts, rng = ModelVersion("m-1", "v1.0.0", "ab" * 32, 1, specs, ()), np.random.default_rng(9)

    def batches(lengths: tuple[int, int], num_rows: int, shift: float = 0.0) -> list[Any]:
        """Rows of which each has one of the lengths."""
        sizes = rng.integers(*lengths, num_rows)
        return [
            narrowed(rng.normal(shift, size=(int((sizes == size).sum()), size))) for size in np.unique(sizes).tolist()
        ]

    of = make_reference(facts, [({"x": rows}, {}) for rows in batches((20, 60), 1_000)], "")

    def case_of(parts: list[Any]) -> Case:
        (tensor,) = of.tensors
        tally = TensorTally(tensor)
        for part in parts:
            tally.add(part, slice(None))
        return compared(of, tally.take(), PARAMS)

    for _ in range(20):
        assert not case_of(batches((20, 60), 300)).is_drift
    longer = case_of(batches((40, 80), 300))
    assert "x.axis0" in {each.name for each in longer.drifting}
    assert case_of(batches((20, 60), 300, shift=1.0)).is_drift

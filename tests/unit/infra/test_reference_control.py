"""References from a file: the version runs for its rows, and the reference says how both are distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from executors.model_store import ModelStore
from executors.session import ModelSession
from infra.memory_control import ChangeRefusedError
from infra.reference_control import facts_of, outputs_of, reference_of
from streams.memory_view import ActiveVersion
from tests.support.frames import MODEL, memory
from tests.support.models import identity, version_of

BLOB = identity(4)
FACTS = version_of(BLOB)


def test_the_reference_of_a_file_has_the_inputs_and_what_the_version_answers(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.put(BLOB)
    rows = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", anything=rows)
    found = reference_of(FACTS, store, tmp_path / "rows.npz")
    assert (found.num_rows, found.source, found.model, found.version) == (300, "rows.npz", FACTS.model, FACTS.version)
    assert [(tensor.name, tensor.is_output, len(tensor.measures)) for tensor in found.tensors] == (
        [("x", False, 6), ("y", True, 2)]
    )
    (largest,) = [measure for measure in found.measures if measure.name == "y.largest"]
    assert (largest.low, largest.high) == (rows.max(axis=1).min(), rows.max(axis=1).max())


def test_a_version_runs_in_batches_of_its_size() -> None:
    session = ModelSession.load(BLOB, FACTS, "cpu", warm=False)
    rows = np.arange(4 * (FACTS.max_batch_size + 3), dtype=np.float32).reshape(-1, 4)
    assert outputs_of(session, {"x": rows})["y"].tolist() == rows.tolist()
    assert outputs_of(session, {"x": rows[:0]}) == {}


def test_facts_are_the_active_versions_where_none_is_named() -> None:
    view = memory(MODEL, ActiveVersion(MODEL.model, MODEL.version))
    assert facts_of(view, MODEL.model) == facts_of(view, MODEL.model, MODEL.version) == MODEL
    for model, version, code in (("nobody", "", "unknown_model"), (MODEL.model, "v9.9.9", "unknown_version")):
        with pytest.raises(ChangeRefusedError) as refused:
            facts_of(view, model, version)
        assert (refused.value.code, refused.value.exit_code) == (code, 3)

"""References from a file: the version runs for its rows, and the reference says how both are distributed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from executors.model_store import ModelStore
from executors.session import ModelSession
from infra.memory_control import ChangeRefusedError
from infra.reference_control import answered, facts_of, reference_of
from infra.row_file import RowFileError
from schemas.model import TensorSpec
from streams.memory_view import ActiveVersion
from tests.support.frames import MODEL, memory
from tests.support.models import identity, sums, version_of, words

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


def test_a_file_of_too_few_rows_is_named(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.put(BLOB)
    np.savez(tmp_path / "rows.npz", x=np.ones((10, 4), np.float32))
    with pytest.raises(RowFileError, match=r"rows.npz: 10 rows say too little, at least 50 are needed") as refused:
        reference_of(FACTS, store, tmp_path / "rows.npz")
    assert refused.value.exit_code == 2


def test_a_version_runs_in_batches_of_its_size() -> None:
    session = ModelSession.load(BLOB, FACTS, "cpu", warm=False)
    rows = np.arange(4 * (FACTS.max_batch_size + 3), dtype=np.float32).reshape(-1, 4)
    batches = list(answered(session, {"x": rows}))
    assert [len(inputs["x"]) for inputs, _ in batches] == [FACTS.max_batch_size, 3]
    assert np.concatenate([outputs["y"] for _, outputs in batches]).tolist() == rows.tolist()
    assert list(answered(session, {"x": rows[:0]})) == []


def test_the_reference_of_texts_and_of_rows_of_several_lengths(tmp_path: Path) -> None:
    store, path = ModelStore(tmp_path), tmp_path / "rows.jsonl"
    blob = words()
    facts = version_of(
        blob, (TensorSpec("word", "BYTES", ()),), (TensorSpec("label", "INT64", ()), TensorSpec("back", "BYTES", ()))
    )
    store.put(blob)
    path.write_text("\n".join(json.dumps({"word": word}) for word in ["cat", "dog", "elephant"] * 20))
    found = reference_of(facts, store, path)
    assert [measure.name for measure in found.measures] == (
        ["word[0].length", "word[0].bucket", "label[0]", "back[0].length", "back[0].bucket"]
    )
    assert found.tensors[1].measures[0].counts == (20, 20, 20)
    assert (found.measures[0].low, found.measures[0].high) == (3, 8)

    blob = sums()
    facts = version_of(
        blob, (TensorSpec("a", "FP32", (3,)), TensorSpec("b", "INT8", (-1,))),
        (TensorSpec("sum", "FP32", (3,)), TensorSpec("total", "INT32", ()), TensorSpec("b2", "INT8", (-1,))),
    )  # fmt: skip
    store.put(blob)
    path.write_text("\n".join(json.dumps({"a": [1, 2, at], "b": [at % 5] * (1 + at % 4)}) for at in range(100)))
    found = reference_of(facts, store, path)
    axis = {measure.name: measure for measure in found.measures}
    assert axis["b.axis0"].counts == axis["b2.axis0"].counts == (25, 25, 25, 25)
    assert axis["total[0]"].high == 16


def test_facts_are_the_active_versions_where_none_is_named() -> None:
    view = memory(MODEL, ActiveVersion(MODEL.model, MODEL.version))
    assert facts_of(view, MODEL.model) == facts_of(view, MODEL.model, MODEL.version) == MODEL
    for model, version, code in (("nobody", "", "unknown_model"), (MODEL.model, "v9.9.9", "unknown_version")):
        with pytest.raises(ChangeRefusedError) as refused:
            facts_of(view, model, version)
        assert (refused.value.code, refused.value.exit_code) == (code, 3)

"""Golden sets from a person's file to what an answer has right."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.golden import GoldenDataError, GoldenRows, classes_of, label_output, num_right, pack, read_golden, unpack
from schemas.check import GoldenSet
from schemas.model import ModelVersion, TensorSpec
from streams.tensors import to_array, to_tensor

FACTS = ModelVersion(
    "digits", "v1.0.0", "ab" * 32, 10,
    (TensorSpec("image", "UINT8", (4,)),),
    (TensorSpec("scores", "FP32", (3,)), TensorSpec("classes", "INT64", (3,))),
)  # fmt: skip
IMAGES = np.arange(12, dtype=np.uint8).reshape(3, 4)
LABELS = np.array([2, 0, 1], np.int64)
BY_LABELS = GoldenSet("digits", "ab" * 32, 100, 3, "labels", "classes", 950_000)
BY_OUTPUTS = replace(BY_LABELS, kind="outputs", output="", tolerance=0.01)


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return path


def test_rows_with_labels_from_both_kinds_of_file(tmp_path: Path) -> None:
    from_lines = [{"image": row.tolist(), "digit": int(label)} for row, label in zip(IMAGES, LABELS, strict=True)]
    for rows in (
        read_golden(npz(tmp_path, image=IMAGES, labels=LABELS), FACTS),
        read_golden(npz(tmp_path, images=IMAGES, labels=LABELS.astype(np.uint8)), FACTS),
        read_golden(jsonl(tmp_path, *from_lines), FACTS, "digit"),
    ):
        np.testing.assert_array_equal(rows.inputs["image"], IMAGES)
        assert rows.inputs["image"].dtype == np.uint8
        assert rows.labels is not None
        np.testing.assert_array_equal(rows.labels, LABELS)
        assert rows.labels.dtype == np.int64
        assert (rows.outputs, rows.num_rows) == ({}, 3)


def test_rows_with_outputs(tmp_path: Path) -> None:
    scores = np.eye(3, dtype=np.float32)
    rows = read_golden(npz(tmp_path, image=IMAGES, scores=scores), FACTS)
    assert (rows.labels, list(rows.outputs)) == (None, ["scores"])
    lines = [{"image": [1, 2, 3, 4], "scores": [0, 0, 1]}] * 2
    rows = read_golden(jsonl(tmp_path, *lines), FACTS)
    assert rows.outputs["scores"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"image": IMAGES}, "it holds neither labels nor one of the outputs scores, classes"),
        ({"labels": LABELS}, "the input image is missing; it holds nothing"),
        ({"image": IMAGES, "more": IMAGES, "labels": LABELS[:2]}, "a golden set has 1 to 2,000 rows, this one 2, 3"),
        ({"x": IMAGES, "y": IMAGES, "labels": LABELS}, "the input image is missing; it holds x, y"),
        ({"image": IMAGES.astype(float), "labels": LABELS}, "image is float64 [3, 4], the model takes UINT8 [-1, 4]"),
        ({"image": IMAGES[:, :3], "labels": LABELS}, "image is uint8 [3, 3], the model takes UINT8 [-1, 4]"),
        ({"image": IMAGES[:0], "labels": LABELS[:0]}, "a golden set has 1 to 2,000 rows, this one 0"),
        ({"image": IMAGES, "labels": LABELS / 2}, "labels is float64 [3], not one integer a row"),
        ({"image": np.zeros((2_001, 4), np.uint8), "labels": np.zeros(2_001, int)}, "a golden set has 1 to 2,000"),
        ({"image": IMAGES, "scores": np.array(["a", "b", "c"])}, "the output scores holds no numbers, and"),
        ({"image": np.array([{}], object), "labels": LABELS[:1]}, "it is no .npz without objects"),
    ],
)  # fmt: skip
def test_what_is_no_golden_set(tmp_path: Path, arrays: dict[str, Any], problem: str) -> None:
    with pytest.raises(GoldenDataError) as caught:
        read_golden(npz(tmp_path, **arrays), FACTS)
    assert str(caught.value).startswith(problem)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (['{"image": [1'], "line 1 is not JSON"),
        ([{"image": [1, 2, 3, 4], "labels": 1}, {"image": [1, 2, 3, 4]}], "line 2 is no object with the keys"),
        ([[1, 2]], "line 1 is no object"),
        ([{"image": [1, 2, 3, 400], "labels": 1}], "its rows are not alike"),
        ([{"image": [1, 2, 3, 4], "labels": "one"}], "its rows are not alike"),
        ([{"image": [1], "labels": 1}, {"image": [1, 2], "labels": 1}], "its rows are not alike"),
    ],
)
def test_lines_that_are_no_rows(tmp_path: Path, rows: list[object], problem: str) -> None:
    with pytest.raises(GoldenDataError, match=problem):
        read_golden(jsonl(tmp_path, *rows), FACTS)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(GoldenDataError, match="it is no .npz"):
        read_golden(path, FACTS)


@given(st.integers(1, 20), st.booleans())
def test_rows_come_back_and_the_same_rows_give_the_same_bytes(num_rows: int, by_labels: bool) -> None:
    rows = GoldenRows(
        {"image": np.arange(num_rows * 4, dtype=np.uint8).reshape(-1, 4)},
        np.arange(num_rows) if by_labels else None,
        {} if by_labels else {"scores": np.ones((num_rows, 3), np.float32)},
    )
    blob = pack(rows)
    assert pack(unpack(blob)) == blob
    again = unpack(blob)
    np.testing.assert_array_equal(again.inputs["image"], rows.inputs["image"])
    assert ((again.labels is None), list(again.outputs)) == (not by_labels, list(rows.outputs))


def test_what_is_too_large_or_damaged_is_refused() -> None:
    with pytest.raises(GoldenDataError, match="at most 8,388,608 bytes"):
        pack(GoldenRows({"image": np.zeros((2_000, 5_000), np.uint8)}, LABELS, {}))
    for blob in (b"", b"PK what", pack(GoldenRows({"image": IMAGES}, LABELS, {}))[:-30]):
        with pytest.raises(GoldenDataError, match="the stored set cannot be read"):
            unpack(blob)
    with pytest.raises(GoldenDataError, match="no rows with answers"):
        unpack(pack(GoldenRows({"image": IMAGES}, None, {})))


def test_a_stored_set_that_is_small_and_takes_much_or_is_uneven_is_refused() -> None:
    small = io.BytesIO()
    large: Any = {"input.image": np.zeros(9_000_000, np.uint8), "labels": LABELS}
    np.savez_compressed(small, **large)
    assert small.tell() < 20_000
    with pytest.raises(GoldenDataError, match="the stored set would take 9,000,"):
        unpack(small.getvalue())
    for labels in (LABELS[:2], np.int64(3)):
        uneven = io.BytesIO()
        arrays: Any = {"input.image": IMAGES, "labels": labels}
        np.savez(uneven, **arrays)
        with pytest.raises(GoldenDataError, match="no common first axis"):
            unpack(uneven.getvalue())


def test_the_output_that_labels_are_compared_with() -> None:
    assert label_output(FACTS.outputs) == "classes"
    assert label_output(FACTS.outputs, "scores") == "scores"
    assert label_output(FACTS.outputs[:1]) == "scores"
    with pytest.raises(GoldenDataError, match="there is no output y; there are scores, classes"):
        label_output(FACTS.outputs, "y")


def test_classes() -> None:
    np.testing.assert_array_equal(classes_of(np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]])), [1, 0])
    np.testing.assert_array_equal(classes_of(np.array([[7, 1], [3, 2]])), [7, 3])
    np.testing.assert_array_equal(classes_of(np.array([7, 3], np.uint8)), [7, 3])


ROWS = GoldenRows({"image": IMAGES}, LABELS, {"scores": np.eye(3, dtype=np.float32)})


@pytest.mark.parametrize(
    ("begin", "classes", "right"),
    [(0, [[2], [0], [1]], 3), (0, [[2], [1], [1]], 2), (1, [[0], [1]], 2), (1, [[2], [0]], 0)],
)
def test_right_labels(begin: int, classes: list[list[int]], right: int) -> None:
    assert num_right(BY_LABELS, ROWS, begin, {"classes": np.array(classes)}) == right
    assert num_right(BY_LABELS, ROWS, begin, {"other": np.array(classes)}) == 0


def test_right_outputs() -> None:
    scores = np.eye(3, dtype=np.float32)
    assert num_right(BY_OUTPUTS, ROWS, 0, {"scores": scores}) == 3
    assert num_right(BY_OUTPUTS, ROWS, 1, {"scores": scores[1:]}) == 2
    assert num_right(BY_OUTPUTS, ROWS, 0, {"scores": scores + np.float32(0.009)}) == 3
    assert num_right(replace(BY_OUTPUTS, tolerance=0.0), ROWS, 0, {"scores": scores + np.float32(0.009)}) == 0
    assert num_right(BY_OUTPUTS, ROWS, 0, {"scores": scores[:, :2]}) == 0
    assert num_right(BY_OUTPUTS, ROWS, 0, {}) == 0
    assert num_right(BY_OUTPUTS, ROWS, 0, {"scores": scores.astype(str)}) == 0
    assert num_right(BY_LABELS, ROWS, 0, {"classes": np.array(["2", "0", "1"])}) == 0
    nan = np.where(scores == 1, np.nan, scores)
    assert num_right(BY_OUTPUTS, replace(ROWS, outputs={"scores": nan}), 0, {"scores": nan}) == 3
    both = replace(ROWS, outputs={"scores": scores, "classes": LABELS[:, None]})
    wrong = {"scores": scores, "classes": np.array([[2], [9], [1]])}
    assert num_right(BY_OUTPUTS, both, 0, wrong) == 2


def test_a_file_of_another_kind_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(GoldenDataError, match=r"its name ends in .csv, and only .npz and .jsonl are read"):
        read_golden(tmp_path / "rows.csv", FACTS)


def test_texts_and_bf16_are_rows_like_others(tmp_path: Path) -> None:
    specs = (TensorSpec("word", "BYTES", (2,)), TensorSpec("x", "BF16", (1,)))
    facts = replace(FACTS, inputs=specs)
    lines = [{"word": ["ü", "b"], "x": [1.5], "labels": 1}, {"word": ["", "dd"], "x": [-2], "labels": 0}]
    words = np.array([line["word"] for line in lines])
    for rows in (
        read_golden(jsonl(tmp_path, *lines), facts),
        read_golden(npz(tmp_path, word=words, x=np.array([[1.5], [-2]]), labels=np.array([1, 0])), facts),
    ):
        kept = unpack(pack(rows))
        sent = {name: to_tensor(name, array) for name, array in kept.slice(0, 2).items()}
        assert (sent["word"].datatype, sent["word"].shape) == ("BYTES", (2, 2))
        assert to_array(sent["word"]).tolist() == [["ü".encode(), b"b"], [b"", b"dd"]]
        assert sent["x"].datatype == "BF16"
        assert to_array(sent["x"]).tolist() == [[1.5], [-2.0]]
    with pytest.raises(GoldenDataError, match=r"word is int64 \[2, 2\], the model takes BYTES \[-1, 2\]"):
        read_golden(npz(tmp_path, word=np.ones((2, 2), np.int64), x=np.ones((2, 1)), labels=np.ones(2, int)), facts)

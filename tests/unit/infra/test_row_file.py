"""Rows from files: each form, in the model's own types, and one sentence for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.row_file import RowFileError, read_rows
from schemas.model import TensorSpec
from streams.tensors import narrowed

IMAGE = TensorSpec("image", "UINT8", (2, 2))
AGE = TensorSpec("age", "FP32", ())
WEIGHTS = TensorSpec("weights", "FP64", (2,))
ROWS = [[[1, 2], [3, 4]], [[5, 6], [7, 255]]]


def test_an_array_may_have_another_name_and_type_where_it_can_only_be_the_input(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, images=np.array(ROWS, np.int64), labels=np.array([1, 2]))
    (found,) = read_rows(path, (IMAGE,))
    assert found["image"].dtype == np.uint8
    assert found["image"].tolist() == ROWS


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"image": image, "age": age, "label": 7}) for image, age in zip(ROWS, (1, None), strict=True)]
    path.write_text("\n\n".join(lines))
    (found,) = read_rows(path, (IMAGE, AGE))
    assert found["image"].tolist() == ROWS
    np.testing.assert_array_equal(found["age"], np.array([1, np.nan], np.float32))


def test_columns_by_name_or_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("weights[1],age,weights[0],label\n2,30,1,a\n4,,3,b\n")
    (found,) = read_rows(path, (WEIGHTS, AGE))
    assert found["weights"].tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(found["age"], np.array([30, np.nan], np.float32))
    path.write_text("a,b,c,d\n1,2,3,4\n5,6,7,255\n")
    assert read_rows(path, (IMAGE,))[0]["image"].tolist() == ROWS


def test_texts_in_each_form(tmp_path: Path) -> None:
    word, pair = TensorSpec("word", "BYTES", ()), TensorSpec("pair", "BYTES", (2,))
    rows = [{"word": "ü", "pair": ["a", "b"]}, {"word": "", "pair": ["c", "dd"]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (lines,) = read_rows(path, (word, pair))
    path = tmp_path / "rows.csv"
    path.write_text("word,pair[0],pair[1]\nü,a,b\n,c,dd\n")
    (cells,) = read_rows(path, (word, pair))
    path = tmp_path / "rows.npz"
    np.savez(path, word=np.array(["ü", ""]), pair=np.array([[b"a", b"b"], [b"c", b"dd"]]))
    (arrays,) = read_rows(path, (word, pair))
    for found in (lines, cells, arrays):
        assert {name: array.tolist() for name, array in found.items()} == {
            "word": ["ü", ""], "pair": [["a", "b"], ["c", "dd"]]
        }  # fmt: skip
        assert {array.dtype for array in found.values()} == {np.dtype(object)}


def test_bf16_is_given_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1.5, null]}\n{"x": [-2, 1e9]}\n')
    (found,) = read_rows(path, (TensorSpec("x", "BF16", (2,)),))
    np.testing.assert_array_equal(found["x"], narrowed(np.array([[1.5, np.nan], [-2, 1e9]], np.float32)))


def test_rows_with_free_axes_come_in_a_batch_per_shape(tmp_path: Path) -> None:
    specs = (TensorSpec("x", "INT64", (-1,)), TensorSpec("t", "BYTES", (-1,)), AGE)
    path = tmp_path / "rows.jsonl"
    rows = [([1, 2], ["a"], 5), ([3], ["b", "c"], 6), ([4, 5], ["d"], 7), ([], [], 8)]
    path.write_text("\n".join(json.dumps({"x": x, "t": t, "age": age}) for x, t, age in rows))
    first, second, empty = read_rows(path, specs)
    assert (first["x"].tolist(), first["t"].tolist(), first["age"].tolist()) == (
        [[1, 2], [4, 5]],
        [["a"], ["d"]],
        [5, 7],
    )
    assert (second["x"].tolist(), second["t"].tolist()) == ([[3]], [["b", "c"]])
    assert empty["x"].shape == empty["t"].shape == (1, 0)
    assert empty["x"].dtype == np.int64
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.ones((3, 4), np.int64))
    (found,) = read_rows(path, specs[:1])
    assert found["x"].shape == (3, 4)


def test_of_many_rows_so_many_are_taken_evenly(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, age=np.arange(1_000, dtype=np.float32))
    found = read_rows(path, (AGE,), most=300)[0]["age"]
    assert (len(found), found[1], found[-1]) == (250, 4.0, 996.0)


@pytest.mark.parametrize(
    ("name", "content", "specs", "said"),
    [
        ("a.txt", "", (AGE,), "a file ends in .npz, .jsonl, .csv, not .txt"),
        ("a.csv", "", (AGE,), "it is empty"),
        ("a.csv", "age,b\n1\n", (AGE,), "row 2 has 1 cells, the header 2"),
        ("a.csv", "a,b\n1,2\n", (IMAGE,), r"there is no column image\[0\], and not 4 columns in all"),
        ("a.csv", "age\nold\n", (AGE,), "a cell of age is no number"),
        ("a.csv", "image,x,y,z\n1,2,3,256\n", (IMAGE,), "values that UINT8 cannot hold"),
        ("a.csv", "image,x,y,z\n1,2,3,\n", (IMAGE,), "values that UINT8 cannot hold"),
        ("a.jsonl", "{", (AGE,), "line 1 is not JSON"),
        ("a.jsonl", '{"age":1}\n[2]', (AGE,), "line 2 has no value for age"),
        ("a.jsonl", '{"image":[1,2,3]}', (IMAGE,), r"rows of image are not \[2, 2\] numbers"),
        ("a.jsonl", '{"image":[[1,2],[3,"x"]]}', (IMAGE,), "image is <U"),
        ("a.npz", "no zip", (AGE,), "it is no .npz without objects"),
        ("a.csv", "", (TensorSpec("t", "FP32", (-1,)),), "the input t has free axes, which only .jsonl and .npz"),
        ("a.jsonl", '{"t":[1,"a"]}', (TensorSpec("t", "BYTES", (2,)),), "t has values that are no texts"),
        ("a.jsonl", '{"t":["a"]}', (TensorSpec("t", "BYTES", (2,)),), r"rows of t are not \[2\] texts"),
        ("a.jsonl", '{"t":[[1],[2,3]]}', (TensorSpec("t", "FP32", (-1, -1)),), "row 1 of t is no tensor"),
        ("a.jsonl", '{"t":[[1],[2]]}', (TensorSpec("t", "FP32", (-1, 2)),), r"t is float64 \[1, 2, 1\]"),
        ("a.jsonl", '{"t":["a"]}', (TensorSpec("t", "FP32", (-1,)),), r"rows of t are not \[-1\] numbers"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, name: str, content: str, specs: Any, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RowFileError, match=said) as refused:
        read_rows(path, specs)
    assert refused.value.exit_code == 2
    assert str(refused.value).startswith(f"{path}: ")


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, a=np.zeros((2, 2, 2)), b=np.zeros((2, 2, 2)))
    with pytest.raises(RowFileError, match=r"no array image; it holds a \[2, 2, 2\], b"):
        read_rows(path, (IMAGE,))
    np.savez(path, image=np.zeros((2, 3)))
    with pytest.raises(RowFileError, match=r"image is float64 \[2, 3\], the model takes UINT8 \[-1, 2, 2\]"):
        read_rows(path, (IMAGE,))
    np.savez(path, image=np.zeros((2, 2, 2)), age=np.zeros(3))
    with pytest.raises(RowFileError, match=r"different numbers of rows: \[2, 3\]"):
        read_rows(path, (IMAGE, AGE))
    np.savez(path, image=np.float32(3))
    with pytest.raises(RowFileError, match="image is a single value"):
        read_rows(path, (IMAGE,))
    with pytest.raises(OSError, match="nowhere"):
        read_rows(tmp_path / "nowhere.npz", (IMAGE,))


def test_a_cell_too_large_and_a_damaged_archive_are_sentences(tmp_path: Path) -> None:
    table, archive = tmp_path / "rows.csv", tmp_path / "rows.npz"
    table.write_text("age\n" + "1" * 200_000)
    with pytest.raises(RowFileError, match="it cannot be read as CSV: field larger than"):
        read_rows(table, (AGE,))
    np.savez_compressed(archive, age=np.arange(4_000.0))
    damaged = bytearray(archive.read_bytes())
    damaged[100:140] = bytes(40)
    archive.write_bytes(damaged)
    with pytest.raises(RowFileError, match=r"it is no \.npz without objects"):
        read_rows(archive, (AGE,))

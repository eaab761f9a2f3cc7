"""Golden sets: rows with known answers, read from a person's file, stored as one ``.npz``, compared with answers.

A person's file is ``.npz`` (arrays whose first axis is the rows) or ``.jsonl`` (an object a line). Keys are the names
of the model's inputs, a key for the labels (integers), or names of outputs where all of these are to be equal. A lone
other array stands for the one input of a model that has one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import numpy as np

from infra.json_lines import json_lines
from infra.row_file import UNREADABLE_NPZ
from schemas.check import MAX_GOLDEN_BYTES, MAX_GOLDEN_ROWS, GoldenSet
from schemas.model import ModelVersion, TensorSpec
from streams.errors import IsosError
from streams.tensors import BF16, BF16_ARRAY, BYTES, DTYPES, Array, to_bf16

LABELS: Final = "labels"
INPUT: Final = "input."
OUTPUT: Final = "output."
FLOATS: Final = "f"
NUMBERS: Final = "biuf"


class GoldenDataError(IsosError):
    """A file is no golden set for a model: ``problem`` says why, without a full stop."""

    exit_code = 2

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """Arrays by input name; labels INT64 [n], or outputs by name; the first axis of all is the rows."""

    inputs: Mapping[str, Array]
    labels: Array | None
    outputs: Mapping[str, Array]

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.inputs.values())))

    def slice(self, begin: int, end: int) -> dict[str, Array]:
        """Inputs of some rows."""
        return {name: array[begin:end] for name, array in self.inputs.items()}


def read_golden(path: Path, facts: ModelVersion, label_key: str = LABELS) -> GoldenRows:
    """Rows of a person's file for a version. Raises GoldenDataError, and OSError when it cannot be read."""
    if path.suffix not in (".npz", ".jsonl"):
        raise GoldenDataError(f"its name ends in {path.suffix or 'nothing'}, and only .npz and .jsonl are read")
    arrays = _from_npz(path) if path.suffix == ".npz" else _from_jsonl(path, facts, label_key)
    labels: Array | None = arrays.pop(label_key, None)
    outputs = {spec.name: arrays.pop(spec.name) for spec in facts.outputs if labels is None and spec.name in arrays}
    texts = [name for name, array in outputs.items() if array.dtype.kind not in NUMBERS]
    if texts:
        raise GoldenDataError(f"the output {texts[0]} holds no numbers, and nothing else can be compared")
    inputs = _inputs(arrays, facts.inputs)
    if labels is None and not outputs:
        names = ", ".join(spec.name for spec in facts.outputs)
        raise GoldenDataError(f"it holds neither {label_key} nor one of the outputs {names}")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iub"):
        raise GoldenDataError(f"{label_key} is {labels.dtype} {list(labels.shape)}, not one integer a row")
    lengths = {len(array) for array in (*inputs.values(), *outputs.values(), *(() if labels is None else (labels,)))}
    if len(lengths) != 1 or not 1 <= max(lengths) <= MAX_GOLDEN_ROWS:
        rows = ", ".join(f"{each:,}" for each in sorted(lengths))
        raise GoldenDataError(f"a golden set has 1 to {MAX_GOLDEN_ROWS:,} rows, this one {rows}")
    return GoldenRows(inputs, None if labels is None else labels.astype(np.int64), outputs)


def pack(rows: GoldenRows) -> bytes:
    """The stored form; the same rows give the same bytes. Raises GoldenDataError where they are too many."""
    named = {f"{INPUT}{name}": array for name, array in rows.inputs.items()}
    named |= {f"{OUTPUT}{name}": array for name, array in rows.outputs.items()}
    if rows.labels is not None:
        named[LABELS] = rows.labels
    out = io.BytesIO()
    arrays: dict[str, Any] = {name: np.ascontiguousarray(named[name]) for name in sorted(named)}
    np.savez(out, **arrays)
    if out.tell() > MAX_GOLDEN_BYTES:
        raise GoldenDataError(f"a golden set has at most {MAX_GOLDEN_BYTES:,} bytes, this one {out.tell():,}")
    return out.getvalue()


def unpack(blob: bytes) -> GoldenRows:
    """Rows of a stored set. Raises GoldenDataError for other bytes."""
    try:
        with ZipFile(io.BytesIO(blob)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_GOLDEN_BYTES:
            raise GoldenDataError(f"the stored set would take {unpacked:,} bytes")
        with np.load(io.BytesIO(blob), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (*UNREADABLE_NPZ, OSError) as error:
        raise GoldenDataError(f"the stored set cannot be read: {error}") from error
    inputs = {name.removeprefix(INPUT): array for name, array in arrays.items() if name.startswith(INPUT)}
    outputs = {name.removeprefix(OUTPUT): array for name, array in arrays.items() if name.startswith(OUTPUT)}
    if not inputs or (LABELS not in arrays and not outputs):
        raise GoldenDataError("the stored set holds no rows with answers")
    if len({len(array) if array.ndim else -1 for array in arrays.values()}) != 1:
        raise GoldenDataError("the arrays of the stored set have no common first axis")
    return GoldenRows(inputs, arrays.get(LABELS), outputs)


def label_output(outputs: Sequence[TensorSpec], wanted: str = "") -> str:
    """The output that labels are compared with: the one asked for, else the first of integers, else the first.

    Raises GoldenDataError for one that is not there.
    """
    if wanted and wanted not in {spec.name for spec in outputs}:
        raise GoldenDataError(f"there is no output {wanted}; there are {', '.join(spec.name for spec in outputs)}")
    integers = [spec.name for spec in outputs if spec.datatype in DTYPES and DTYPES[spec.datatype].kind in "iu"]
    return wanted or (integers or [spec.name for spec in outputs])[0]


def num_right(golden: GoldenSet, rows: GoldenRows, begin: int, answer: Mapping[str, Array]) -> int:
    """How many rows from ``begin`` on an answer (outputs by name) has right."""
    if golden.kind == "labels":
        given = answer.get(golden.output)
        if rows.labels is None or given is None or given.dtype.kind not in NUMBERS:
            return 0
        labels = rows.labels[begin : begin + len(given)]
        return int(np.count_nonzero(classes_of(given)[: len(labels)] == labels))
    right: Any = None
    for name, expected in rows.outputs.items():
        given = answer.get(name)
        wanted = expected[begin : begin + (0 if given is None else len(given))]
        if given is None or given.shape != wanted.shape or given.dtype.kind not in NUMBERS:
            return 0
        close = np.isclose(given, wanted, rtol=golden.tolerance, atol=golden.tolerance, equal_nan=True)
        same = close.reshape(len(wanted), -1).all(axis=1)
        right = same if right is None else right & same
    return int(np.count_nonzero(right))


def classes_of(output: Array) -> Array:
    """The class of each row [n, ...]: its (first) integer, or the place of its largest number."""
    flat = output.reshape(len(output), -1)
    chosen: Array = flat.argmax(axis=1) if output.dtype.kind == FLOATS else flat[:, 0]
    return chosen.astype(np.int64)


def _from_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except UNREADABLE_NPZ as error:
        raise GoldenDataError(f"it is no .npz without objects: {str(error).removesuffix('.')}") from error


def _from_jsonl(path: Path, facts: ModelVersion, label_key: str) -> dict[str, Array]:
    types = {spec.name: DTYPES.get(spec.datatype) for spec in (*facts.outputs, *facts.inputs)}
    columns: dict[str, list[Any]] = {}
    for number, row in json_lines(path, GoldenDataError):
        if not isinstance(row, dict) or (columns and set(row) != set(columns)):
            raise GoldenDataError(f"line {number} is no object with the keys of the lines before")
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    try:
        return {
            name: np.asarray(values, np.int64 if name == label_key else types.get(name))
            for name, values in columns.items()
        }
    except (ValueError, TypeError, OverflowError) as error:
        raise GoldenDataError(f"its rows are not alike: {error}") from error


def _inputs(arrays: dict[str, Array], specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    if len(specs) == 1 and len(arrays) == 1:
        arrays = {specs[0].name: next(iter(arrays.values()))}
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise GoldenDataError(f"the input {missing[0]} is missing; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    for spec in specs:
        arrays[spec.name] = array = _sendable(arrays[spec.name], spec.datatype)
        shape = array.shape[1:]
        fits = len(shape) == len(spec.item_shape) and all(
            wanted in (-1, found) for wanted, found in zip(spec.item_shape, shape, strict=True)
        )
        if not _is_of(array, spec.datatype) or array.ndim == 0 or not fits:
            wanted = f"{spec.datatype} {[-1, *spec.item_shape]}"
            raise GoldenDataError(f"{spec.name} is {array.dtype} {list(array.shape)}, the model takes {wanted}")
    return {spec.name: arrays[spec.name] for spec in specs}


def _sendable(array: Array, datatype: str) -> Array:
    """Numbers for BF16 in the form in which a client sends them; anything else as it is."""
    return to_bf16(array) if datatype == BF16 and array.dtype.kind in "iuf" else array


def _is_of(array: Array, datatype: str) -> bool:
    if datatype == BYTES:
        return array.dtype.kind in "SU"
    return array.dtype == (BF16_ARRAY if datatype == BF16 else DTYPES.get(datatype))

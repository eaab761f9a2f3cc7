"""Rows of a model in a person's file: ``.npz``, ``.jsonl`` or ``.csv``, as arrays of the model's inputs.

``.npz``: an array per input, rows first; where the model has one input, the only array that fits it may have any name.
``.jsonl``: an object per line with a value per input. ``.csv``: a header and a row per line; the columns of an input
are ``name``, or ``name[0]``, ``name[1]``, ...; of a single input all columns may have any names. An empty cell is NaN.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from schemas.model import TensorSpec
from streams.errors import IsosError
from streams.tensors import DTYPES, Array

MAX_ROWS: Final = 50_000


class RowFileError(IsosError):
    """A file does not hold rows of a model: ``problem`` says why, without a full stop."""

    exit_code = 2

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_rows(path: Path, specs: Sequence[TensorSpec], most: int = MAX_ROWS) -> dict[str, Array]:
    """Arrays ``[n, *item_shape]`` by input, of at most ``most`` rows, evenly taken from the file.

    Raises RowFileError, and OSError when the file cannot be read.
    """
    unknown = [spec.name for spec in specs if spec.datatype not in DTYPES or -1 in spec.item_shape]
    if unknown:
        raise RowFileError(path, f"the input {unknown[0]} is of texts, BF16 or free axes, which no file is read for")
    readers = {".npz": _from_npz, ".jsonl": _from_jsonl, ".csv": _from_csv}
    if path.suffix not in readers:
        raise RowFileError(path, f"a file ends in {', '.join(readers)}, not {path.suffix or 'nothing'}")
    arrays = readers[path.suffix](path, specs)
    lengths = {len(arrays[spec.name]) for spec in specs}
    if len(lengths) != 1:
        raise RowFileError(path, f"its inputs have different numbers of rows: {sorted(lengths)}")
    step = math.ceil(lengths.pop() / most) or 1
    return {spec.name: _typed(path, arrays[spec.name][::step], spec) for spec in specs}


def _from_npz(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise RowFileError(path, f"it is no .npz without objects: {str(error).removesuffix('.')}") from error
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if len(specs) == 1 and missing:
        fitting = [name for name, array in arrays.items() if array.shape[1:] == specs[0].item_shape and array.ndim]
        if len(fitting) == 1:
            return {specs[0].name: arrays[fitting[0]]}
    if missing:
        held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise RowFileError(path, f"there is no array {missing[0]}; it holds {held}")
    return arrays


def _from_jsonl(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    columns: dict[str, list[Any]] = {spec.name: [] for spec in specs}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise RowFileError(path, f"line {number} is not JSON: {error}") from error
            for name, values in columns.items():
                if not isinstance(row, dict) or name not in row:
                    raise RowFileError(path, f"line {number} has no value for {name}")
                values.append(row[name])
    return {spec.name: _numbers(path, columns[spec.name], spec) for spec in specs}


def _from_csv(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = [row for row in csv.reader(file) if row]
    if not lines:
        raise RowFileError(path, "it is empty")
    header, rows = [name.strip() for name in lines[0]], lines[1:]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise RowFileError(path, f"row {number} has {len(row)} cells, the header {len(header)}")
    return {spec.name: _numbers(path, _cells(path, header, rows, spec, len(specs)), spec) for spec in specs}


def _cells(
    path: Path, header: list[str], rows: list[list[str]], spec: TensorSpec, num_inputs: int
) -> list[list[float]]:
    """The cells of one input, row by row."""
    size = math.prod(spec.item_shape)
    wanted = [f"{spec.name}[{number}]" for number in range(size)] if size > 1 else [spec.name]
    places: Mapping[str, int] = {name: place for place, name in enumerate(header)}
    if all(name in places for name in wanted):
        order = [places[name] for name in wanted]
    elif num_inputs == 1 and len(header) == size:
        order = list(range(size))
    else:
        missing = next(name for name in wanted if name not in places)
        raise RowFileError(path, f"there is no column {missing}, and not {size} columns in all")
    try:
        return [[float(row[place]) if row[place].strip() else math.nan for place in order] for row in rows]
    except ValueError as error:
        raise RowFileError(path, f"a cell of {spec.name} is no number: {error}") from error


def _numbers(path: Path, values: list[Any], spec: TensorSpec) -> Array:
    is_float = DTYPES[spec.datatype].kind == "f"
    try:
        made = np.asarray(values, np.float64 if is_float else None)
        return made.reshape(len(values), *spec.item_shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise RowFileError(path, f"rows of {spec.name} are not {list(spec.item_shape)} numbers: {error}") from error


def _typed(path: Path, array: Array, spec: TensorSpec) -> Array:
    """The array in the input's own type; numbers that it cannot hold are an error."""
    dtype = DTYPES[spec.datatype]
    if array.shape[1:] != spec.item_shape or array.dtype.kind not in "iufb":
        found = f"{array.dtype} {list(array.shape)}"
        raise RowFileError(path, f"{spec.name} is {found}, the model takes {spec.datatype} {[-1, *spec.item_shape]}")
    with np.errstate(invalid="ignore", over="ignore"):
        made = np.ascontiguousarray(array.astype(dtype))
    if dtype.kind != "f" and not np.array_equal(made, array):
        raise RowFileError(path, f"{spec.name} has values that {spec.datatype} cannot hold")
    return made

"""Rows of a model in a person's file: ``.npz``, ``.jsonl`` or ``.csv``, as arrays of the model's inputs.

``.npz``: an array per input, rows first; where the model has one input, the only array that fits it may have any name.
``.jsonl``: an object per line with a value per input; only here rows may differ in the lengths of free axes. ``.csv``:
a header and a row per line; the columns of an input are ``name``, or ``name[0]``, ``name[1]``, ...; of a single input
all columns may have any names. An empty cell is NaN, or the empty text. BF16 is given in numbers.
"""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from infra.json_lines import json_lines
from schemas.model import TensorSpec
from streams.errors import IsosError
from streams.tensors import BF16, BYTES, DTYPES, FLOATING, Array, narrowed

MAX_ROWS: Final = 50_000

UNREADABLE_NPZ: Final = (ValueError, EOFError, BadZipFile, zlib.error, RuntimeError)
"""What reading a .npz raises: no archive, cut off, damaged, encrypted, or packed in a way that nobody unpacks."""

Column = Array | list[Any]
"""Values of one input, row by row."""


class RowFileError(IsosError):
    """A file does not hold rows of a model: ``problem`` says why, without a full stop."""

    exit_code = 2

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def read_rows(path: Path, specs: Sequence[TensorSpec], most: int = MAX_ROWS) -> list[dict[str, Array]]:
    """Arrays ``[n, *item_shape]`` by input, of at most ``most`` rows, evenly taken from the file.

    Texts are ``str`` objects, BF16 is uint16, as a session takes them. One batch, or several where rows differ in the
    lengths of free axes. Raises RowFileError, and OSError when the file cannot be read.
    """
    readers = {".npz": _from_npz, ".jsonl": _from_jsonl, ".csv": _from_csv}
    if path.suffix not in readers:
        raise RowFileError(path, f"a file ends in {', '.join(readers)}, not {path.suffix or 'nothing'}")
    columns: Mapping[str, Column] = readers[path.suffix](path, specs)
    lengths = {len(columns[spec.name]) for spec in specs}
    if len(lengths) != 1:
        raise RowFileError(path, f"its inputs have different numbers of rows: {sorted(lengths)}")
    num_rows = lengths.pop()
    chosen = range(0, num_rows, math.ceil(num_rows / most) or 1)
    batches = _batches(path, {spec.name: columns[spec.name] for spec in specs}, specs, chosen)
    return [{spec.name: _typed(path, batch[spec.name], spec) for spec in specs} for batch in batches]


def _batches(
    path: Path, columns: Mapping[str, Column], specs: Sequence[TensorSpec], chosen: range
) -> Iterable[Mapping[str, Array]]:
    """The chosen rows; together those whose items have one shape, in the order in which the shapes come."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    free = [spec for spec in specs if -1 in spec.item_shape and isinstance(columns[spec.name], list)]
    for row in chosen:
        groups.setdefault(tuple([_shape(path, columns[spec.name][row], spec, row) for spec in free]), []).append(row)
    for rows in groups.values():
        yield {spec.name: _array(path, columns[spec.name], rows, spec) for spec in specs}


def _shape(path: Path, value: Any, spec: TensorSpec, row: int) -> tuple[int, ...]:
    try:
        return np.shape(value)
    except ValueError as error:
        raise RowFileError(
            path, f"row {row + 1} of {spec.name} is no tensor: its lists have several lengths"
        ) from error


def _array(path: Path, column: Column, rows: list[int], spec: TensorSpec) -> Array:
    if isinstance(column, list):
        return _of_values(path, [column[row] for row in rows], spec)
    taken: Array = column[rows]
    return taken


def _from_npz(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Column]:
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except UNREADABLE_NPZ as error:
        raise RowFileError(path, f"it is no .npz without objects: {str(error).removesuffix('.')}") from error
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if len(specs) == 1 and missing:
        fitting = [name for name, array in arrays.items() if array.ndim and _fits(array.shape[1:], specs[0])]
        if len(fitting) == 1:
            return {specs[0].name: arrays[fitting[0]]}
    if missing:
        held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise RowFileError(path, f"there is no array {missing[0]}; it holds {held}")
    scalars = [spec.name for spec in specs if not arrays[spec.name].ndim]
    if scalars:
        raise RowFileError(path, f"{scalars[0]} is a single value, not an array of rows")
    return {**arrays}


def _from_jsonl(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Column]:
    columns: dict[str, list[Any]] = {spec.name: [] for spec in specs}
    for number, row in json_lines(path, partial(RowFileError, path)):
        for name, values in columns.items():
            if not isinstance(row, dict) or name not in row:
                raise RowFileError(path, f"line {number} has no value for {name}")
            values.append(row[name])
    return {**columns}


def _from_csv(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Column]:
    free = [spec.name for spec in specs if -1 in spec.item_shape]
    if free:
        raise RowFileError(path, f"the input {free[0]} has free axes, which only .jsonl and .npz are read for")
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            lines = [row for row in csv.reader(file) if row]
    except csv.Error as error:
        raise RowFileError(path, f"it cannot be read as CSV: {error}") from error
    if not lines:
        raise RowFileError(path, "it is empty")
    header, rows = [name.strip() for name in lines[0]], lines[1:]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise RowFileError(path, f"row {number} has {len(row)} cells, the header {len(header)}")
    return {spec.name: _cells(path, header, rows, spec, len(specs)) for spec in specs}


def _cells(path: Path, header: list[str], rows: list[list[str]], spec: TensorSpec, num_inputs: int) -> list[list[Any]]:
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
    if spec.datatype == BYTES:
        return [[row[place] for place in order] for row in rows]
    try:
        return [[float(row[place]) if row[place].strip() else math.nan for place in order] for row in rows]
    except ValueError as error:
        raise RowFileError(path, f"a cell of {spec.name} is no number: {error}") from error


def _of_values(path: Path, values: list[Any], spec: TensorSpec) -> Array:
    """Rows of one shape as an array; of fixed axes a row may be written flat."""
    is_text = spec.datatype == BYTES
    try:
        made = np.array(values, object if is_text else (np.float64 if spec.datatype in FLOATING else None))
        return made if -1 in spec.item_shape else made.reshape(len(values), *spec.item_shape)
    except (ValueError, TypeError, OverflowError) as error:
        what = "texts" if is_text else "numbers"
        raise RowFileError(path, f"rows of {spec.name} are not {list(spec.item_shape)} {what}: {error}") from error


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    wanted = spec.item_shape
    return len(shape) == len(wanted) and all(want in (-1, length) for want, length in zip(wanted, shape, strict=True))


def _typed(path: Path, array: Array, spec: TensorSpec) -> Array:
    """The array in the input's own type; what it cannot hold is an error."""
    kinds = "USO" if spec.datatype == BYTES else "iufb"
    if not _fits(array.shape[1:], spec) or array.dtype.kind not in kinds:
        found = f"{array.dtype} {list(array.shape)}"
        raise RowFileError(path, f"{spec.name} is {found}, the model takes {spec.datatype} {[-1, *spec.item_shape]}")
    if spec.datatype == BYTES:
        return _texts(path, array, spec)
    dtype = np.dtype(np.float32) if spec.datatype == BF16 else DTYPES[spec.datatype]
    with np.errstate(invalid="ignore", over="ignore"):
        made = np.ascontiguousarray(array.astype(dtype))
    if dtype.kind != "f" and not np.array_equal(made, array):
        raise RowFileError(path, f"{spec.name} has values that {spec.datatype} cannot hold")
    return narrowed(made) if spec.datatype == BF16 else made


def _texts(path: Path, array: Array, spec: TensorSpec) -> Array:
    """Texts as ``str`` objects."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    made: Array = array.astype(object)
    if not all(isinstance(text, str) for text in made.ravel().tolist()):
        raise RowFileError(path, f"{spec.name} has values that are no texts")
    return made

"""Rules of the Orchestrator for references: what may stand under ``reference/<model>/<version>``."""

from __future__ import annotations

import math
from collections.abc import Iterator

from agents.verdict import Change, Refusal, State, Verdict
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import (
    MAX_BYTES,
    MAX_EDGES,
    MAX_MEASURES,
    MAX_PLACES,
    MIN_ROWS,
    Measure,
    Reference,
    SampledTensor,
)
from streams.canonical import from_json, to_json
from streams.references import REFERENCES, reference_key
from streams.tensors import BYTES, DTYPES


def set_reference(state: State, command: MemoryCommand) -> Verdict:
    """Say what a registered version's rows look like; the one before is replaced."""
    reference = from_json(Reference, command.body)
    name, key = f"{reference.model} {reference.version}", reference_key(reference.model, reference.version)
    if command.key != key:
        return Refusal("invalid_body", f"The reference of {name} stands under {key}, not under {command.key}.")
    standing = state.values.get(f"model/{reference.model}/{reference.version}")
    if standing is None:
        return Refusal("unknown_version", f"{reference.model} has no version {reference.version}.")
    facts = from_json(ModelVersion, standing.body, newer=True)
    for problem in _problems(reference, facts):
        return Refusal("invalid_reference", f"The reference of {name} is wrong: {problem}.")
    body = to_json(reference)
    if len(body.encode()) > MAX_BYTES:
        return Refusal("too_large", f"A reference has at most {MAX_BYTES} bytes, not {len(body.encode())}.")
    return (Change("ReferenceSet", key, body),)


def remove_reference(state: State, command: MemoryCommand) -> Verdict:
    """Compare a version's rows with nothing any more; the body is not read."""
    if not command.key.startswith(REFERENCES):
        return Refusal("invalid_body", f"References stand under reference/<model>/<version>, not under {command.key}.")
    return (Change("ReferenceRemoved", command.key, None),) if command.key in state.values else ()


def _problems(reference: Reference, facts: ModelVersion) -> Iterator[str]:
    """What does not fit, as sentences without a full stop."""
    if reference.num_rows < MIN_ROWS:
        yield f"{reference.num_rows} rows are too few, {MIN_ROWS} are needed"
    if not 1 <= len(reference.measures) <= MAX_MEASURES:
        yield f"it has {len(reference.measures)} measures, 1 to {MAX_MEASURES} may be"
    known = {(spec.name, False): spec for spec in facts.inputs} | {(spec.name, True): spec for spec in facts.outputs}
    for tensor in reference.tensors:
        spec = known.get((tensor.name, tensor.is_output))
        if spec is None or not _is_of(tensor, spec):
            size = f"{tensor.size} elements" if not tensor.free else f"the free axes {list(tensor.free)}"
            yield f"the model has no tensor {tensor.name} of {size} there"
        elif tensor.datatype != spec.datatype and (tensor.datatype or spec.datatype not in DTYPES):
            yield f"{tensor.name} is {spec.datatype}, not {tensor.datatype or 'of numbers'}"
        elif not (1 <= tensor.places <= MAX_PLACES if tensor.free else 1 <= tensor.stride <= tensor.size):
            yield f"the stride of {tensor.name} is {tensor.stride}, and {tensor.places} places are looked at"
        else:
            yield from _wrong_measures(tensor, spec.datatype, reference.num_rows)


def _is_of(tensor: SampledTensor, spec: TensorSpec) -> bool:
    free = tuple(axis for axis, length in enumerate(spec.item_shape) if length < 0)
    return tensor.free == free and tensor.size == (0 if free else math.prod(spec.item_shape))


def _is_there(tensor: SampledTensor, measure: Measure) -> bool:
    """Whether a measure is of something that is looked at."""
    if measure.kind == "axis":
        return measure.element in tensor.free
    if tensor.free:
        return 0 <= measure.element < tensor.places
    return 0 <= measure.element < tensor.size and measure.element % tensor.stride == 0


def _wrong_measures(tensor: SampledTensor, datatype: str, num_rows: int) -> Iterator[str]:
    for measure in tensor.measures:
        if measure.kind != "axis" and (measure.kind in ("length", "bucket")) != (datatype == BYTES):
            yield f"{measure.name} is no measure of {datatype}"
        elif not _is_there(tensor, measure):
            yield f"{measure.name} is of element {measure.element}, which is not looked at"
        elif not _is_sound(measure) or min(measure.counts, default=-1) < 0 or measure.num_missing < 0:
            yield f"the bins of {measure.name} do not fit each other"
        elif sum(measure.counts) + measure.num_missing != num_rows:
            yield f"{measure.name} does not have {num_rows} rows"


def _is_sound(measure: Measure) -> bool:
    numbers = (*measure.edges, measure.low, measure.high, measure.mean, measure.deviation)
    ascending = all(a < b for a, b in zip(measure.edges, measure.edges[1:], strict=False))
    fits = len(measure.counts) == len(measure.edges) + 1 <= MAX_EDGES + 1
    return fits and ascending and all(map(math.isfinite, numbers)) and measure.deviation >= 0

"""Records of a frame that may be written as the bytes they were read from (``schemas.frame.Spliced``).

A stage that changes little writes again what it read: the Router gives a segment its version, which stands before
``wire``, and a frame its sequence and time, which stand before its segments. Only these functions hand ``wire`` on;
every other copy is without it and is written field by field.
"""

from __future__ import annotations

from typing import TypeVar

from schemas.frame import InferenceFrame, Segment, Spliced
from schemas.quick import replaced

_S = TypeVar("_S", bound=Spliced)


def wire_of(record: Spliced) -> memoryview | None:
    """The bytes that a record was read from, or None."""
    return getattr(record, "wire", None)


def read_from(record: _S, wire: memoryview) -> _S:
    """The record itself, which from now on may be written as ``wire``; for whoever made it just now."""
    object.__setattr__(record, "wire", wire)
    return record


def served_by(segment: Segment, version: str, cohort: str) -> Segment:
    """The segment, not yet executed, with a version and a cohort."""
    made = Segment(segment.model, version, cohort, segment.num_rows, segment.inputs, (), blob=segment.blob)
    wire = wire_of(segment)
    return made if wire is None else read_from(made, wire)


def routed(
    frame: InferenceFrame, segments: tuple[Segment, ...], memory_sequence: int, routed_us: int
) -> InferenceFrame:
    """The frame with other segments over the same rows, the memory it was routed by, and when."""
    made = replaced(frame, segments=segments, memory_sequence=memory_sequence, routed_us=routed_us)
    wire = wire_of(frame)
    return made if wire is None else read_from(made, wire)

"""A model that is shadowed, and what executors make of its rows and their copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.frame import InferenceFrame, TensorBlock
from schemas.quick import replaced
from schemas.shadow import Shadow
from streams.columns import SHADOW
from streams.memory_view import MemoryView
from tests.support.frames import MODEL, executed, memory, plan

SERVING, SHADOWING = "v1.0.0", "v1.1.0"
CANDIDATE = replace(MODEL, version=SHADOWING, digest="cd" * 32)


def shadowed(percent: int = 100, *, sequence: int = 40, version: str = SHADOWING) -> MemoryView:
    """Memory in which ``digits`` is served by one version and shadowed by another."""
    planned = replace(plan("digits", (SERVING, 100)), shadow=Shadow(version, percent))
    return memory(MODEL, CANDIDATE, planned, sequence=sequence)


def answered(outputs: list[list[float]], *, first: int = 100, version: str = SERVING) -> InferenceFrame:
    """An executed frame of ``digits``, one row of one item for each list of outputs, routed by the shadowing plan."""
    made = executed(len(outputs), first=first)
    block = TensorBlock("y", "FP32", (len(outputs[0]),), np.array(outputs, "<f4").tobytes())
    segment = replace(made.segments[0], version=version, outputs=(block,))
    return replaced(made, segments=(segment,), memory_sequence=99)


def copies(outputs: list[list[float]], *, first: int = 100, status: int = 1) -> InferenceFrame:
    """What the shadow made of copies of such rows."""
    made = answered(outputs, first=first, version=SHADOWING)
    count = len(outputs)
    return replaced(
        made, roles=bytes([SHADOW]) * count, statuses=bytes([status]) * count, executed_us=made.routed_us + 9
    )

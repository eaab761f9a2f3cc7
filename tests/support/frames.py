"""Builders of frames and memory views for tests of the data plane, and a random one for properties."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

import numpy as np

from schemas.cache import CachePolicy
from schemas.canary import Canary
from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from schemas.known_good import KnownGood
from schemas.memory import MemoryEntry
from schemas.model import ModelVersion, TensorSpec
from schemas.plan import Plan, VersionWeight
from schemas.request import BlobRef
from schemas.scaling import Replicas
from streams.canonical import to_json
from streams.frame_builder import FrameBuilder, Row
from streams.memory_view import ActiveVersion, MemoryView

TOPIC_ID = bytes(range(16))
T = 1_700_000_000_000_000
MODEL = ModelVersion(
    "digits",
    "v1.0.0",
    "ab" * 32,
    1000,
    (TensorSpec("x", "FP32", (2,)),),
    (TensorSpec("y", "FP32", (3,)),),
)


def row(
    offset: int,
    *,
    model: str = "digits",
    version: str = "",
    items: int = 1,
    gap: int = 0,
    deadline_us: int = T + 1_000_000,
    request_id: str = "",
    tenant: str = "default",
    routing_key: str = "",
    priority: int = 5,
    width: int = 2,
) -> Row:
    """One pending row whose tensor ``x`` (FP32 [items, width]) holds its offset."""
    data = np.full((items, width), offset, "<f4").tobytes()
    return Row(
        offset,
        gap,
        T - 1000,
        deadline_us,
        priority,
        (request_id or f"r{offset}").encode(),
        tenant,
        routing_key.encode(),
        model,
        version,
        items,
        (("x", "FP32", (width,), data),),
    )


def frame(rows: Iterable[Row], *, partition: int = 1, now_us: int = T) -> InferenceFrame:
    """One frame of the rows, however large."""
    builder = FrameBuilder(TOPIC_ID, partition, max_bytes=1 << 40)
    for each in rows:
        builder.add(each)
    (built,) = builder.build(7, now_us, 3)
    return built


def with_blob(plain: Row) -> Row:
    """The row with its tensors' data in a blob."""
    data = b"".join(block[3] for block in plain.blocks)
    plain.blob = BlobRef(hashlib.sha256(data).hexdigest(), len(data))
    plain.blocks = tuple((*block[:3], b"") for block in plain.blocks)
    return plain


def random_frame(seed: int, num_rows: int = 12, *, blobs: bool = False) -> InferenceFrame:
    """A frame with several models, versions, widths, gaps, ended rows with errors, and several items per row.

    With ``blobs`` some rows have one.
    """
    rng, blob_rng = random.Random(seed), random.Random(~seed)
    rows, offset = [], 100
    for _ in range(num_rows):
        gap = rng.choice((0, 0, 0, 2))
        offset += 1 + gap
        made = row(
            offset,
            model=rng.choice(("digits", "mlp-a", "mlp-b")),
            version=rng.choice(("", "", "v1.0.0")),
            items=rng.randint(1, 3),
            gap=gap,
            tenant=rng.choice(("default", "acme")),
            routing_key=rng.choice(("", "k1", "käy")),
            priority=rng.randint(0, 9),
            width=rng.choice((2, 3)),
        )
        if rng.random() < 0.2:
            made.status, made.error = 3, RowError(0, "wrong_shape", f"row {offset}", 5)
            made.items, made.blocks = 0, ()
        elif blobs and blob_rng.random() < 0.4:
            made = with_blob(made)
        rows.append(made)
    return frame(rows)


def executed(
    rows: int = 3, *, first: int = 100, items: int = 1, values: float = 0.5, status: int = 1
) -> InferenceFrame:
    """A frame of ``digits`` v1.0.0 as an executor leaves it: outputs ``y`` FP32 [items, 3]."""
    made = frame([row(first + at, items=items) for at in range(rows)])
    block = TensorBlock("y", "FP32", (3,), np.full((rows * items, 3), values, "<f4").tobytes())
    segment = Segment(
        "digits",
        "v1.0.0",
        "main",
        rows,
        (),
        (block,),
        "ab" * 32,
        "CPUExecutionProvider",
        "executor-0",
        9,
        rows,
        40,
        200,
    )
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
    fields |= {"segments": (segment,), "statuses": bytes([status]) * rows, "routed_us": T + 1, "executed_us": T + 2}
    return InferenceFrame(**fields)


def plan(model: str, *versions: tuple[str, int], lane: int = -1) -> Plan:
    """An effective plan with versions and their weights in percent."""
    return Plan(model, tuple(VersionWeight(*version) for version in versions), 128, 30_000, lane)


def memory(
    *facts: ModelVersion | Plan | ActiveVersion | CachePolicy | Replicas | KnownGood | Canary, sequence: int = 40
) -> MemoryView:
    """A view in which the facts stand under their keys, in this order."""
    entries = {}
    for number, fact in enumerate(facts):
        match fact:
            case ModelVersion():
                key = f"model/{fact.model}/{fact.version}"
            case Plan():
                key = f"plan/{fact.model}"
            case ActiveVersion():
                key = f"active/{fact.model}"
            case Canary():
                key = f"canary/{fact.model}"
            case CachePolicy():
                key = f"cache/{fact.model}"
            case Replicas():
                key = f"replicas/{fact.pool}"
            case KnownGood():
                key = f"good/{fact.model}"
        entries[key] = MemoryEntry(key, 1, number + 1, to_json(fact), T)
    return MemoryView(sequence=sequence, entries=entries)

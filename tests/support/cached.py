"""Builders of cached answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from schemas.cache import CachePolicy
from schemas.frame import InferenceFrame, TensorBlock
from streams.cache.keys import NO_DIGEST, input_digests
from streams.cache.lookup import LookedUp, Lookup
from streams.cache.values import Entry, Made, payloads
from streams.columns import OK, Columns, segment_starts
from tests.support.frames import MODEL, T

SCOPE = b"scope-of-digits!"
DIGEST = b"digest-of-input!"
FIELD = SCOPE + DIGEST
MADE = Made(MODEL.digest, "", "CPUExecutionProvider", "executor-0", (("y", "FP32", (3,)),))


def entry(value: float = 1.0, *, items: int = 1, filled_us: int = T, made: Made = MADE) -> Entry:
    """An answer, routed by memory 3, whose output ``y`` (FP32 [items, 3]) holds ``value``."""
    return Entry(made, items, filled_us, 3, (np.full((items, 3), value, "<f4").tobytes(),), items * 12)


def executed(routed: InferenceFrame, *, version: str = "v1.0.0", batch_id: int = 7) -> InferenceFrame:
    """The frame as it comes back: each row OK, ``y`` three times the first value of its ``x``."""
    columns, starts, segments = Columns.of(routed), segment_starts(routed), []
    for number, segment in enumerate(routed.segments):
        items = int(columns.row_items[starts[number] : starts[number + 1]].sum())
        x = np.frombuffer(segment.inputs[0].data, "<f4").reshape(items, -1)
        y = np.repeat(x[:, :1], 3, axis=1).astype("<f4")
        segments.append(
            replace(
                segment, version=version, inputs=(), outputs=(TensorBlock("y", "FP32", (3,), y.tobytes()),),
                model_digest=MODEL.digest, execution_provider="CPUExecutionProvider", executor="executor-0",
                batch_id=batch_id, batch_size=16,
            )
        )  # fmt: skip
    return replace(routed, segments=tuple(segments), statuses=bytes([OK]) * len(routed.statuses))


def digests_of(frame: InferenceFrame) -> bytes:
    """The digest of every row's input."""
    items, starts = Columns.of(frame).row_items.tolist(), segment_starts(frame)
    rows = [
        input_digests(segment, items[starts[number] : starts[number + 1]])
        for number, segment in enumerate(frame.segments)
    ]
    return b"".join([digest for digests in rows for digest in digests])


POLICY = CachePolicy("digits", True, 1, 60)


def known(looked: Lookup | None, answers: Mapping[bytes, Entry]) -> LookedUp:
    """What a cache that holds ``answers`` by key gives back."""
    assert looked is not None
    return LookedUp(looked, tuple(tuple(answers.get(field) for field in asked.fields) for asked in looked.asked))


def filled(frame: InferenceFrame, digests: bytes, now_us: int = T) -> list[tuple[bytes, bytes]]:
    """The payloads of a frame whose models all have the scope ``SCOPE``."""
    assert len(digests) == len(frame.statuses) * len(NO_DIGEST)
    return list(payloads(frame, digests, lambda *_: SCOPE, now_us))

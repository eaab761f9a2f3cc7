"""Order per routing key: which rows of a frame have one, and which lane keeps it.

For one source partition and one routing key of an ordered model (``memory_view.ordered_models``), OK results stand on
``inference.results`` in the order of their requests' offsets. Every stage keeps that order, and whatever ends such a
row before its executor (a refusal, a deadline, no plan) travels on in its place, as a row with that status: on another
topic it could be lost where later rows were not, and the row, delivered again, might then be served behind them.
"""

from __future__ import annotations

import zlib
from collections.abc import Container
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame
from streams.columns import Array, segment_starts, take
from streams.lane_class import lanes_of
from streams.memory_view import MemoryView, ordered_models


class _EveryModel(Container[str]):
    """Any model: what to take for ordered where memory is behind."""

    def __contains__(self, model: object) -> bool:
        return True


EVERY_MODEL: Final = _EveryModel()
PENDING_BYTE: Final = b"\x00"


def ordered_as_of(memory: MemoryView, sequence: int) -> Container[str]:
    """Models that are ordered, for a frame that was decided on at ``sequence``; where memory is behind it, any may be.

    An empty frozenset where none is.
    """
    return ordered_models(memory) if memory.sequence >= sequence else EVERY_MODEL


def has_ended_rows(frame: InferenceFrame) -> bool:
    """Whether a row of the frame has ended already."""
    return bool(frame.statuses.strip(PENDING_BYTE))


def ended_before(frame: InferenceFrame) -> tuple[InferenceFrame | None, InferenceFrame | None]:
    """The rows of an admitted frame that are to be routed, and those that ended before; None for none."""
    if not has_ended_rows(frame):
        return frame, None
    pending = np.frombuffer(frame.statuses, "|u1") == 0
    rows, ended = np.flatnonzero(pending), np.flatnonzero(~pending)
    return (take(frame, rows) if len(rows) else None), take(frame, ended)


def lane_of_key(model: str, key: bytes, num_lanes: int, num_slow: int) -> int:
    """The lane of a key: by CRC-32 of model and key among the fast ones, whatever class the plan is of.

    A plan may move a model to the slow lanes and back; a key that moved could be overtaken.
    """
    lanes = lanes_of(num_lanes, num_slow, slow=False)
    return lanes[zlib.crc32(key, zlib.crc32(model.encode())) % len(lanes)]


def keyed_rows(frame: InferenceFrame, ordered: Container[str]) -> Array:
    """Whether each row has a routing key and is of one of the models in ``ordered``; bool [rows]."""
    keyed = np.frombuffer(frame.key_lengths, "<u2") > 0
    mine = np.zeros(len(keyed), np.bool_)
    starts = segment_starts(frame)
    for number, segment in enumerate(frame.segments):
        if segment.model in ordered:
            mine[starts[number] : starts[number + 1]] = True
    result: Array = keyed & mine
    return result


def has_models(frame: InferenceFrame, ordered: Container[str]) -> bool:
    """Whether a segment is of one of the models in ``ordered``."""
    return any(segment.model in ordered for segment in frame.segments)

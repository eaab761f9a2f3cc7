"""Rows of ordered models keep the order of their key (``streams/key_order.py``): the Router's part. Pure.

Whatever the other rules say of such a row, it goes to the lane of its key, in the order of the offsets within its
frame: a row of another version in between makes segments of runs. Rows that end here go there too, as ended rows.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from schemas.frame import InferenceFrame
from streams.arrange import Cut, arranged
from streams.columns import Array, routing_keys, segment_starts, take
from streams.frame_effects import Defer, SendFrame
from streams.key_order import EVERY_MODEL, has_models, keyed_rows, lane_of_key, ordered_as_of
from streams.memory_view import MemoryView, ordered_models

Sent = SendFrame | Defer


def passed_on(frame: InferenceFrame, memory: MemoryView, now_us: int, num_lanes: int, num_slow: int) -> list[SendFrame]:
    """Rows that ended before, each to the lane of its key; one without a key ends as others do."""
    lanes = _lanes(frame, EVERY_MODEL, num_lanes, num_slow)
    sent: list[SendFrame] = []
    for lane in np.unique(lanes).tolist():
        part = replace(take(frame, np.flatnonzero(lanes == lane)), memory_sequence=memory.sequence, routed_us=now_us)
        topic, partition = ("inference.executed", frame.partition) if lane < 0 else ("inference.routed", lane)
        sent.append(SendFrame(topic, partition, part))
    return sent


def in_order(
    frame: InferenceFrame, effects: Sequence[Sent], memory: MemoryView, num_lanes: int, num_slow: int
) -> tuple[Sent, ...]:
    """The effects of a decision on an admitted frame, with the rows of ordered models in the lanes of their keys."""
    ordered = ordered_models(memory)
    if not ordered and memory.sequence >= frame.memory_sequence:  # nearly always
        return tuple(effects)
    made: list[Sent] = []
    for effect in effects:
        if not isinstance(effect, SendFrame):
            made.append(effect)
        elif effect.topic == "inference.routed":
            made += _routed(effect, ordered, num_lanes, num_slow)
        else:
            made += _ended(effect, ordered_as_of(memory, frame.memory_sequence), memory, num_lanes, num_slow)
    return tuple(made)


def _lanes(frame: InferenceFrame, ordered: Container[str], num_lanes: int, num_slow: int) -> Array:
    """The lane of each row of an ordered model by its key, -1 of the others; int64 [rows]."""
    lanes = np.full(len(frame.statuses), -1, np.int64)
    mine = np.flatnonzero(keyed_rows(frame, ordered))
    if len(mine):
        keys, starts = routing_keys(frame), segment_starts(frame)
        numbers = (np.searchsorted(starts, mine, side="right") - 1).tolist()
        lanes[mine] = [
            lane_of_key(frame.segments[number].model, keys[row], num_lanes, num_slow)
            for row, number in zip(mine.tolist(), numbers, strict=True)
        ]
    return lanes


def _routed(effect: SendFrame, ordered: Container[str], num_lanes: int, num_slow: int) -> list[SendFrame]:
    frame, own = effect.frame, effect.partition
    if not has_models(frame, ordered):
        return [effect]
    lanes = _lanes(frame, ordered, num_lanes, num_slow)
    offsets = np.frombuffer(frame.offsets, "<i8")
    mine = np.flatnonzero(lanes >= 0)
    if (lanes[mine] == own).all() and (np.diff(offsets[mine]) > 0).all():
        return [effect]
    starts = segment_starts(frame)
    number_of = np.repeat(np.arange(len(frame.segments)), np.diff(starts))
    sent: list[SendFrame] = []
    for lane in sorted({own, *lanes[mine].tolist()}):
        keyed = mine[lanes[mine] == lane]
        rows = [
            *(np.flatnonzero(lanes < 0).tolist() if lane == own else ()),
            *keyed[np.argsort(offsets[keyed])].tolist(),
        ]
        cuts = []
        for number, run in groupby(rows, key=lambda row: int(number_of[row])):
            cuts.append(Cut(number, tuple([row - starts[number] for row in run])))
        if cuts:
            sent.append(SendFrame(effect.topic, lane, arranged(frame, cuts)))
    return sent


def _ended(
    effect: SendFrame, ordered: Container[str], memory: MemoryView, num_lanes: int, num_slow: int
) -> list[SendFrame]:
    """Rows that the Router ended, those with an order to their lanes."""
    frame = effect.frame
    if not has_models(frame, ordered):
        return [effect]
    lanes = _lanes(frame, ordered, num_lanes, num_slow)
    sent: list[SendFrame] = []
    for lane in np.unique(lanes).tolist():
        part = take(frame, np.flatnonzero(lanes == lane))
        if lane < 0:
            sent.append(SendFrame(effect.topic, effect.partition, part))
        else:
            sent.append(SendFrame("inference.routed", lane, replace(part, memory_sequence=memory.sequence)))
    return sent

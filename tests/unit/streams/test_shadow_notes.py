"""Comparisons on their way to the log: joined by versions and partition, bounded, and readable."""

from __future__ import annotations

from dataclasses import replace

from agents.comparison import Waiting, copies_executed, rows_answered
from schemas.shadow import ShadowComparison
from streams.codec import Codec, SchemaIds
from streams.frame_effects import NoteShadows
from streams.shadow_notes import COLUMNS, MOST_ROWS, TOPIC, ShadowNotes
from tests.support.frames import T
from tests.support.shadowed import answered, copies, shadowed

CODEC = Codec(SchemaIds.local())


def noted(first: int, count: int = 2) -> NoteShadows:
    outputs = [[0.1, 0.9]] * count
    waiting, _ = rows_answered(Waiting(), answered(outputs, first=first), shadowed(), T)
    (effect,) = copies_executed(waiting, copies(outputs, first=first), T)[1]
    return effect


def told(notes: ShadowNotes) -> list[ShadowComparison]:
    pairs = notes.close(T + 5)
    assert {topic for topic, _ in pairs} <= {TOPIC}
    return [record for _, record in pairs]


def test_what_belongs_together_is_one_record_and_is_told_once() -> None:
    notes = ShadowNotes()
    other = replace(noted(300).comparisons[0], partition=2, num_unheard=4)
    for each in (noted(100), noted(200), NoteShadows((other,))):
        notes.add(each)
    first, second = told(notes)
    assert (first.partition, len(first.statuses), first.ids, first.time_us) == (1, 4, b"r100r101r200r201", T + 5)
    assert (second.partition, len(second.statuses), second.num_unheard) == (2, 2, 4)
    assert len(first.offsets) == 8 * 4
    assert len(first.digests) == 16 * 4
    assert CODEC.decode(TOPIC, CODEC.encode(TOPIC, first)) == first
    assert told(notes) == []


def test_rows_without_room_count_as_unheard() -> None:
    notes = ShadowNotes()
    full = noted(0, count=100)
    for _ in range(MOST_ROWS // 100 + 3):
        notes.add(full)
    (record,) = told(notes)
    assert (len(record.statuses), record.num_unheard) == (MOST_ROWS, 300)
    notes.add(full)
    assert [len(each.statuses) for each in told(notes)] == [100]


def test_every_column_is_joined() -> None:
    fields = set(ShadowComparison.__dataclass_fields__)
    scalars = {"model", "version", "primary_version", "topic_id", "partition", "time_us", "num_unheard"}
    assert set(COLUMNS) == fields - scalars

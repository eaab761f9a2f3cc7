"""Copies beside their rows: whoever comes second makes the line, and what stays alone is noted as such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agents.comparison import MOST_WAITING, WAIT_US, Waiting, copies_executed, expired, rows_answered
from schemas.quick import replaced
from schemas.shadow import AGREES, DIFFERS, NO_DIGEST, UNKNOWN, ShadowComparison
from streams.columns import ERROR, EXPIRED, OK, REJECTED
from streams.frame_effects import NoteShadows
from tests.support.frames import MODEL, TOPIC_ID, T, memory, plan
from tests.support.shadowed import SERVING, SHADOWING, answered, copies, shadowed

VIEW = shadowed()
ONE, OTHER = [0.1, 0.9], [0.9, 0.1]


def told(effects: tuple[NoteShadows, ...]) -> tuple[ShadowComparison, ...]:
    return tuple([each for effect in effects for each in effect.comparisons])


def offsets_of(said: ShadowComparison) -> list[int]:
    offsets: list[int] = np.frombuffer(said.offsets, "<i8").tolist()
    return offsets


def test_a_row_and_its_copy_make_a_line_whichever_comes_first() -> None:
    made = [answered([ONE, ONE]), copies([[0.2, 0.8], OTHER])]
    lines = []
    for order in (made, made[::-1]):
        waiting = Waiting()
        said: tuple[ShadowComparison, ...] = ()
        for frame in order:
            if any(frame.roles):
                waiting, effects = copies_executed(waiting, frame, T)
            else:
                waiting, effects = rows_answered(waiting, frame, VIEW, T)
            said += told(effects)
        assert waiting == Waiting()
        lines.append(said)
    assert lines[0] == lines[1]
    ((line,), _) = lines
    assert (line.model, line.version, line.primary_version) == ("digits", SHADOWING, SERVING)
    assert (line.topic_id, line.partition, line.num_unheard) == (TOPIC_ID, 1, 0)
    assert offsets_of(line) == [100, 101]
    assert (line.ids, list(line.id_lengths)) == (b"r100r101", [4, 4])
    assert list(line.agreements) == [AGREES, DIFFERS]
    assert (list(line.statuses), list(line.primary_statuses)) == ([OK, OK], [OK, OK])
    assert np.frombuffer(line.latencies_us, "<i4").tolist() == [9, 9]
    assert np.frombuffer(line.primary_latencies_us, "<i4").tolist() == [1, 1]
    assert np.frombuffer(line.runs_us, "<i4").tolist() == [200, 200]
    assert line.digests[:16] != line.primary_digests[:16]


def test_a_copy_that_failed_is_noted_with_its_status_and_agrees_with_nobody() -> None:
    waiting, _ = rows_answered(Waiting(), answered([ONE]), VIEW, T)
    _, effects = copies_executed(waiting, copies([ONE], status=REJECTED), T)
    (line,) = told(effects)
    assert (list(line.statuses), list(line.agreements), line.digests) == ([REJECTED], [UNKNOWN], NO_DIGEST)


def test_a_row_that_failed_is_compared_too() -> None:
    waiting, _ = rows_answered(Waiting(), replaced(answered([ONE]), statuses=bytes([ERROR])), VIEW, T)
    _, effects = copies_executed(waiting, copies([ONE]), T)
    (line,) = told(effects)
    assert (list(line.primary_statuses), line.primary_digests, list(line.agreements)) == ([ERROR], NO_DIGEST, [UNKNOWN])


def test_a_row_without_a_copy_counts_as_unheard_and_a_copy_without_its_row_is_noted_alone() -> None:
    waiting, _ = rows_answered(Waiting(), answered([ONE, ONE]), VIEW, T)
    waiting, none = copies_executed(waiting, copies([ONE], first=500, status=EXPIRED), T)
    assert none == ()
    assert expired(waiting, TOPIC_ID, 1, T + WAIT_US - 1) == (waiting, ())
    waiting, effects = expired(waiting, TOPIC_ID, 1, T + WAIT_US)
    assert waiting == Waiting()
    unheard, alone = told(effects)
    assert (unheard.num_unheard, unheard.offsets, unheard.primary_version) == (2, b"", SERVING)
    assert (alone.num_unheard, offsets_of(alone), alone.primary_version) == (0, [500], "")
    assert (list(alone.statuses), list(alone.primary_statuses)) == ([EXPIRED], [0])


def test_what_waits_is_bounded_and_the_oldest_goes() -> None:
    waiting, num_unheard = Waiting(), 0
    for first in range(0, MOST_WAITING + 100, 100):
        waiting, effects = rows_answered(waiting, answered([ONE] * 100, first=first), VIEW, T)
        num_unheard += sum(each.num_unheard for each in told(effects))
    assert (len(waiting.rows), min(waiting.rows)) == (MOST_WAITING, num_unheard)
    assert num_unheard == 200 - MOST_WAITING % 100


def test_only_rows_of_the_share_that_an_executor_had_by_this_plan_wait_for_a_copy() -> None:
    made = answered([ONE])
    (segment,) = made.segments
    for other in (
        replaced(made, segments=(replace(segment, executor=""),)),
        replaced(made, segments=(replace(segment, cached=True),)),
        replaced(made, memory_sequence=1),
        answered([ONE], version=SHADOWING),
    ):
        assert rows_answered(Waiting(), other, shadowed(sequence=40), T) == (Waiting(), ())
    assert rows_answered(Waiting(), made, memory(MODEL, plan("digits", (SERVING, 100))), T) == (Waiting(), ())


def test_a_copy_for_another_shadow_than_the_row_expects_is_no_pair() -> None:
    waiting, _ = rows_answered(Waiting(), answered([ONE]), shadowed(version="v9.0.0"), T)
    waiting, none = copies_executed(waiting, copies([ONE]), T)
    assert none == ()
    assert (len(waiting.rows), len(waiting.copies)) == (1, 1)

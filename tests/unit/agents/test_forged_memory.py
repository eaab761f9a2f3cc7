"""Forged memory: one alert for what does not follow the chain, with what it claims, until none comes."""

from __future__ import annotations

from dataclasses import replace

from agents.forged_memory import Forged, gone, note
from agents.monitor import MONITOR
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from streams.agent import Publish, Unreadable
from streams.canonical import from_json, to_json
from streams.codec import Codec, SchemaIds
from streams.control.journal import TICK_INPUT, Input, JournaledAgent
from streams.memory_view import ZERO_HASH, MemoryHead
from tests.support.control import SECOND, at

FIRST = MemoryEvent(1, ZERO_HASH, "c1", "cli", "ModelRegistered", "model/a/v1.0.0", 1, "{}", "", (), SECOND)
PLACE = RecordCoordinate("memory.events", 0, 41)
QUIET_US = 60 * SECOND


def test_what_follows_is_nobodys_alert() -> None:
    assert note(None, MemoryHead(), at(FIRST)) == (None, ())


def test_the_first_that_does_not_follow_is_an_alert_and_the_second_is_counted() -> None:
    forged = replace(FIRST, sequence=7, agent="operator", key="active/a")
    met, (effect,) = note(None, MemoryHead(), at(forged, 5 * SECOND, PLACE))
    expected = Forged(
        "forged_memory/41", 1, 5 * SECOND, PLACE, "sequence 7 does not follow 0", 7, "operator", "active/a"
    )
    assert met == expected
    assert isinstance(effect, Publish)
    assert (effect.topic, effect.record.kind, effect.record.severity) == ("control.alerts", "forged_memory", "critical")
    assert effect.record.causes == (PLACE,)
    assert from_json(Forged, effect.record.evidence) == expected
    again, effects = note(met, MemoryHead(), at(forged, 9 * SECOND))
    assert (again, effects) == (replace(expected, num_records=2, last_us=9 * SECOND), ())


def test_a_wrong_hash_and_what_cannot_be_read_are_refused_too() -> None:
    met, (effect,) = note(None, MemoryHead(0, bytes([1]) * 32), at(FIRST))
    assert met is not None
    assert "prev_hash" in met.reason
    assert "prev_hash" in effect.record.message
    met, _ = note(None, MemoryHead(), at(Unreadable("garbage")))
    assert met is not None
    assert (met.sequence, met.agent, met.reason) == (-1, "", "it cannot be read (garbage)")


def test_the_alert_ends_when_none_came_for_a_while() -> None:
    met, _ = note(None, MemoryHead(), at(replace(FIRST, sequence=7), 5 * SECOND))
    assert gone(met, 5 * SECOND + QUIET_US - 1, QUIET_US) == (met, ())
    ended, (effect,) = gone(met, 5 * SECOND + QUIET_US, QUIET_US)
    assert ended is None
    assert effect.record.resolved
    assert gone(None, QUIET_US, QUIET_US) == (None, ())


def test_the_monitor_tells_of_both_kinds_from_its_journal_of_bytes() -> None:
    """As the control loop runs it: record bytes in, effects out; the same bytes read again give the same alert."""
    codec = Codec(SchemaIds.local())
    values = [codec.encode("memory.events", replace(FIRST, sequence=3)), b"rubbish"]
    told = []
    agent = JournaledAgent(MONITOR, codec)
    for offset, value in enumerate(values):
        entry = agent.step(Input("memory.events", 0, offset, b"k", value), (offset + 1) * SECOND)
        assert entry is not None
        told += [codec.decode(each.topic, each.value) for each in entry.effects]
    assert [(alert.alert_id, alert.resolved) for alert in told] == [("forged_memory/0", False)]
    assert agent.state.forged.num_records == 2
    assert to_json(agent.state)
    entry = agent.step(TICK_INPUT, 100 * SECOND)
    assert entry is not None
    assert [codec.decode(each.topic, each.value).resolved for each in entry.effects] == [True]

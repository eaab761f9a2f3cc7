"""Researcher: makes the constraints of its rules file known as context, and slow trends of what models are asked.

Consumes ``control.context`` (its own signals, to know what stands there) and ``control.statistics``, watches
``memory.events``; emits ``control.context`` and a ``NoteContext`` command to ``memory.commands`` (both keyed by the
rule's id). Params: the rules, read from the file by the composition, and when a trend is told.

Rule: a rule is published when it is new or differs from what was published last; so a restart repeats nothing, and a
changed file is published once. A rule that left the file stays in force until it is replaced: dropping a bound silently
would be the unsafe side. Trends: see ``agents.trends``; they are context only, no constraint, and not in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agents import trends
from agents.constraint import KIND, Rule
from agents.trends import TrendParams, Trends
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.review import ContextSignal
from schemas.statistics import VersionStatistics
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import digest, to_json
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead


@dataclass(frozen=True, slots=True)
class Params:
    """The rules in the order of the file; ids are unique."""

    rules: tuple[Rule, ...] = ()
    trends: TrendParams = field(default_factory=TrendParams)


@dataclass(frozen=True, slots=True)
class State:
    """``published``: digest (hex) of each rule as it was published last, by rule id; ``head``: the end of memory."""

    published: Mapping[str, str] = field(default_factory=dict)
    head: MemoryHead = field(default_factory=MemoryHead)
    trends: Trends = field(default_factory=dict)


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Publish the rules that are new at each tick, and a trend when it reaches or leaves its level."""
    match event.record:
        case Tick():
            return publish(state, event.now_us, params)
        case MemoryEvent() as change:
            if void_reason(state.head, change) is not None:
                return state, NO_EFFECTS
            head = MemoryHead(change.sequence, event.answers)
            return replace(state, head=head, trends=trends.learn(state.trends, change)), NO_EFFECTS
        case VersionStatistics() as told:
            after, signals = trends.hear(state.trends, told, event.now_us, params.trends)
            made = tuple(Publish("control.context", each.signal_id.encode(), each) for each in signals)
            return replace(state, trends=after), made
    return state, NO_EFFECTS


def publish(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """Signals and commands for rules that are new or changed."""
    effects: list[Publish] = []
    published = dict(state.published)
    for rule in params.rules:
        identity = digest(rule).hex()
        if published.get(rule.rule_id) == identity:
            continue
        published[rule.rule_id] = identity
        signal = ContextSignal(rule.rule_id, KIND, rule.subject, to_json(rule.constraint), rule.source, now_us)
        effects.append(Publish("control.context", rule.rule_id.encode(), signal))
        effects.append(Publish("memory.commands", rule.rule_id.encode(), _command(signal, identity)))
    return (replace(state, published=published), tuple(effects)) if effects else (state, NO_EFFECTS)


def _command(signal: ContextSignal, identity: str) -> MemoryCommand:
    return MemoryCommand(
        command_id=f"context/{signal.signal_id}/{identity[:16]}/{signal.time_us}",
        agent="researcher",
        kind="NoteContext",
        key=f"context/{signal.signal_id}",
        expected_version=-1,
        body=to_json(signal),
        reason=f"{signal.subject}: {signal.expression} ({signal.source})",
        causes=(),
        sent_us=signal.time_us,
    )


RESEARCHER: Final = AgentSpec(
    name="researcher",
    consumes=("control.context", "control.statistics"),
    watches=("memory.events",),
    emits=("control.context", "memory.commands"),
    tick_ms=1_000,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
    params=Params(),
)

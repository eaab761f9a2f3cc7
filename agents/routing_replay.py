"""Noted decisions of Routers, decided once more by today's code from memory as it stood. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.router import RouterParams, RouterState, decide
from agents.routing_decision import DEFERRED, outcome_of, rows_of
from schemas.decision import RoutedRows, RoutingDecision
from schemas.frame import InferenceFrame
from streams.agent import TICK, Event
from streams.columns import SHADOW
from streams.frame_effects import Defer, SendFrame
from streams.memory_view import MemoryView


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that today's code takes otherwise; ``what`` is a sentence without a full stop."""

    decision: RoutingDecision
    what: str


def differs(decision: RoutingDecision, frame: InferenceFrame, memory: MemoryView) -> Difference | None:
    """How today's decision on a noted frame differs, if it does. ``memory``: as of the decision's sequence."""
    params = RouterParams(decision.num_lanes, decision.hold_us, decision.num_slow_lanes)
    event = Event(frame, TICK, decision.decided_us, answers=memory)
    _, effects = decide(RouterState(), event, params)
    sent = [each for each in effects if isinstance(each, SendFrame | Defer) and SHADOW not in each.frame.roles]
    if outcome_of(sent) == decision.outcome:
        return None
    was, now = _told(decision.rows), _told(rows_of(sent))
    if was == now:
        return Difference(decision, f"{was}: the same ways, but columns of the rows differ")
    return Difference(decision, f"it was {was}, it is {now}")


def _told(rows: Sequence[RoutedRows]) -> str:
    return ", ".join(_way(each) for each in rows) or "nothing"


def _way(rows: RoutedRows) -> str:
    where = "wait" if rows.topic == DEFERRED else f"to {rows.topic}/{rows.partition}"
    return f"{rows.num_rows} rows of {rows.model} {rows.version or 'without a version'} {where}"

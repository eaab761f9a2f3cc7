"""Whether the clock of a process goes wrong, by the times in its heartbeats. Pure; a part of the Monitor.

A heartbeat names when it was sent, and the Monitor knows when it reads it; the difference is the way it took and what
the two clocks are apart. The way is never negative and mostly short, so over ``window_us`` the least difference counts:
a late reading, a pause or a backlog makes some large, not all. Judged at ticks, once heartbeats of ``least_us`` were
read as time went by, which a backlog is not. Against the median of all processes, where there are three or more: what
all have in common is the Monitor's own clock or its slow reading. Where most heartbeats come from the future it is the
clock, and alerted as that.

One alert ``clock_skew`` per process while it is off by ``limit_us``, resolved below half of it or when it is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from schemas.coordinate import RecordCoordinate
from schemas.telemetry import Alert
from streams.agent import NO_EFFECTS, Effects, Publish
from streams.canonical import to_json

MONITOR: Final = "monitor"
ENOUGH: Final = 3
"""Processes from which on a median says something of the Monitor's own clock."""


@dataclass(frozen=True, slots=True)
class SkewParams:
    """Microseconds; see the module's text."""

    limit_us: int = 2_000_000
    window_us: int = 10_000_000
    least_us: int = 4_000_000


@dataclass(frozen=True, slots=True)
class Lags:
    """Of a process: when heartbeats were read and how much later than they were sent, oldest first.

    ``alert_us``: when the alert was raised that stands, else 0.
    """

    lags: tuple[tuple[int, int], ...] = ()
    alert_us: int = 0
    cause: RecordCoordinate | None = None


Skews = Mapping[str, Lags]
"""By ``role-instance``, and the Monitor's own."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far a clock is ahead (positive) or behind, milliseconds; by so many heartbeats and so many processes."""

    ahead_ms: int
    num_heartbeats: int
    num_processes: int


def hear(state: Skews, name: str, sent_us: int, now_us: int, cause: RecordCoordinate, params: SkewParams) -> Skews:
    """Note a heartbeat."""
    known = state.get(name, Lags())
    kept = tuple(each for each in known.lags if now_us - params.window_us < each[0] <= now_us)
    return {**state, name: replace(known, lags=(*kept, (now_us, now_us - sent_us)), cause=cause)}


def judge(state: Skews, now_us: int, params: SkewParams) -> tuple[Skews, Effects]:
    """Raise and resolve what is due; the same object where nothing is."""
    least = {
        name: min(lag for _, lag in lags)
        for name, known in sorted(state.items())
        if (lags := _fresh(known, now_us, params))
    }
    middle = sorted(least.values())[len(least) // 2] if len(least) >= ENOUGH else 0
    apart = {name: middle - lag for name, lag in least.items()}
    if len(least) >= ENOUGH:
        apart[MONITOR] = min(0, middle)
    effects: list[Publish] = []
    changed: dict[str, Lags] = {}
    for name in sorted({*state, *apart}):
        known = state.get(name, Lags())
        evidence = Evidence(apart.get(name, 0) // 1_000, len(known.lags), len(least))
        if not known.alert_us and abs(apart.get(name, 0)) >= params.limit_us:
            changed[name] = replace(known, alert_us=now_us)
            effects.append(_alert(name, changed[name], evidence, now_us, resolved=False))
        elif known.alert_us and _is_over(name, known, apart, now_us, params):
            changed[name] = replace(known, alert_us=0)
            effects.append(_alert(name, known, evidence, now_us, resolved=True))
        elif name != MONITOR and not known.alert_us and _is_gone(known, now_us, params):
            changed[name] = Lags()
    if not changed:
        return state, NO_EFFECTS
    after = {**state, **changed}
    return {name: each for name, each in after.items() if each.lags or each.alert_us}, tuple(effects)


def _fresh(known: Lags, now_us: int, params: SkewParams) -> tuple[tuple[int, int], ...]:
    """The differences that count now; none where they were not read over a while."""
    kept = tuple(each for each in known.lags if now_us - params.window_us < each[0] <= now_us)
    return kept if kept and kept[-1][0] - kept[0][0] >= params.least_us else ()


def _is_over(name: str, known: Lags, apart: Mapping[str, int], now_us: int, params: SkewParams) -> bool:
    if name not in apart:
        return name == MONITOR or _is_gone(known, now_us, params)
    return abs(apart[name]) < params.limit_us // 2


def _is_gone(known: Lags, now_us: int, params: SkewParams) -> bool:
    return not known.lags or now_us - known.lags[-1][0] >= params.window_us


def _alert(name: str, known: Lags, evidence: Evidence, now_us: int, *, resolved: bool) -> Publish:
    seconds = f"{abs(evidence.ahead_ms) / 1000:g}"
    side = "ahead of" if evidence.ahead_ms > 0 else "behind"
    of = "the other processes'" if name == MONITOR or evidence.num_processes >= ENOUGH else "the Monitor's"
    wrong = f"The clock of {name} is {seconds} s {side} {of}."
    alert = Alert(
        alert_id=f"clock_skew/{name}/{known.alert_us}",
        kind="clock_skew",
        subject=name,
        severity="warning",
        message=f"The clock of {name} is right again, or it is silent." if resolved else wrong,
        evidence=to_json(evidence),
        resolved=resolved,
        time_us=now_us,
        causes=() if known.cause is None else (known.cause,),
    )
    return Publish("control.alerts", name.encode(), alert)

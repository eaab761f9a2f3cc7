"""When the breaker of a model version opens, half opens and closes: by what its rows came to, as stages tell it. Pure.

Executors tell of each version how many rows they tried and how many failed by its fault (stage ``executor``), the
Validators how many outputs failed the gate (stage ``gate``). Memory holds which breakers are not closed; this machine
learns its state from there and asks for moves, each with its evidence as reason. Closed -> open when at least
``min_rows`` rows were tried in the last ``window_us`` and ``faulty_percent`` of them failed. Open -> half open after a
time. Half open -> closed when ``min_probes`` rows passed and none failed, or when no row tries the version any more;
else open again for twice as long. What is not answered within ``retry_us`` is asked again. A breaker that is not closed
is an alert until it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.serving import Breaker, ServingPolicy
from schemas.telemetry import Alert, Telemetry
from streams.canonical import from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead

TRIED: Final = "executor"
GATED: Final = "gate"
ANY_VERSION: Final = -1


@dataclass(frozen=True, slots=True)
class BreakerParams:
    """When to move. Times in microseconds.

    ``settle_us``: a window's good rows count as good only when it is so old, for the gate tells of them later.
    ``idle_us``: a half-open breaker that no row tried for so long closes, for nobody asks for its version any more.
    """

    window_us: int = 10_000_000
    min_rows: int = 20
    faulty_percent: int = 50
    open_us: int = 15_000_000
    max_open_us: int = 300_000_000
    min_probes: int = 5
    settle_us: int = 2_500_000
    retry_us: int = 10_000_000
    idle_us: int = 600_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What a stage told of a version in one window."""

    start_us: int
    end_us: int
    num_rows: int
    num_faults: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A version: what was told of it lately, its breaker as memory has it, when a move of it was asked for last.

    ``num_passed``: good rows of a half-open one that are told of no more in ``seen``. ``alert_us``: when the alert was
    raised that stands, else 0.
    """

    seen: tuple[Seen, ...] = ()
    breaker: Breaker | None = None
    asked_us: int = 0
    num_passed: int = 0
    alert_us: int = 0


@dataclass(frozen=True, slots=True)
class Breakers:
    """``versions`` by ``model/version``; ``off``: models whose policy wants no breakers; ``head``: end of memory."""

    head: MemoryHead = field(default_factory=MemoryHead)
    versions: Mapping[str, Watched] = field(default_factory=dict)
    off: tuple[str, ...] = ()


def hear(state: Breakers, window: Telemetry, now_us: int, params: BreakerParams) -> Breakers:
    """Note a stage's window, and forget what is too old."""
    if window.stage not in (TRIED, GATED) or not window.models:
        return state
    end_us = min(now_us, window.window_start_us + window.window_us)
    start_us = min(end_us, window.window_start_us)
    versions = dict(state.versions)
    for part in window.models:
        name = f"{part.model}/{part.version}"
        known = _pruned(versions.get(name, Watched()), now_us, params)
        seen = Seen(start_us, end_us, part.num_rows if window.stage == TRIED else 0, part.num_error)
        versions[name] = replace(known, seen=(*known.seen, seen))
    return replace(state, versions=versions)


def learn(state: Breakers, change: MemoryEvent, value_hash: bytes) -> Breakers:
    """Follow memory: breakers as they stand, and which models want none."""
    if void_reason(state.head, change) is not None:
        return state
    state = replace(state, head=MemoryHead(change.sequence, value_hash))
    try:
        if change.key.startswith("breaker/"):
            breaker = None if change.body is None else from_json(Breaker, change.body, newer=True)
            name = change.key.removeprefix("breaker/")
            alert_us = state.versions.get(name, Watched()).alert_us
            after = Watched(breaker=breaker, alert_us=0 if breaker is None else alert_us or breaker.since_us)
            return replace(state, versions={**state.versions, name: after})
        if change.kind == "ServingPolicySet":
            policy = from_json(ServingPolicy, change.body or "", newer=True)
            off = tuple(model for model in state.off if model != policy.model)
            return replace(state, off=off if policy.breaker else (*off, policy.model))
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body; whatever it is, it moves no breaker
    return state


def moves(state: Breakers, now_us: int, params: BreakerParams) -> tuple[Breakers, tuple[MemoryCommand, ...]]:
    """The moves that are due, each asked for once in ``retry_us``; versions of which nothing is known are forgotten."""
    versions: dict[str, Watched] = {}
    commands: list[MemoryCommand] = []
    for name, known in sorted(state.versions.items()):
        watched = _pruned(known, now_us, params)
        is_due = not watched.asked_us or now_us - watched.asked_us >= params.retry_us
        may_ask = is_due and name.partition("/")[0] not in state.off
        command = _due(name, watched, now_us, params) if may_ask else None
        if command is not None:
            commands.append(command)
            watched = replace(watched, asked_us=now_us)
        if watched.seen or watched.breaker is not None:
            versions[name] = watched
    return (state if versions == state.versions else replace(state, versions=versions)), tuple(commands)


def alert_of(before: Breakers, after: Breakers, change: MemoryEvent, cause: RecordCoordinate) -> Alert | None:
    """What people are told of a memory event: that a version is kept from rows, or no more."""
    name = change.key.removeprefix("breaker/")
    was, now = before.versions.get(name, Watched()), after.versions.get(name, Watched())
    if was.alert_us == now.alert_us:
        return None
    return Alert(
        alert_id=f"breaker_open/{name}/{was.alert_us or now.alert_us}",
        kind="breaker_open",
        subject=name,
        severity="critical",
        message=f"{change.reason}.",
        evidence=change.body or to_json(was.breaker),
        resolved=not now.alert_us,
        time_us=change.time_us,
        causes=(cause,),
        model=name.partition("/")[0],
        version=name.partition("/")[2],
    )


def _pruned(watched: Watched, now_us: int, params: BreakerParams) -> Watched:
    """Without the windows that are too old; the probes of a half-open breaker stay counted, for they may be rare."""
    if not watched.seen or now_us - watched.seen[0].end_us < params.window_us:
        return watched
    seen = tuple(each for each in watched.seen if now_us - each.end_us < params.window_us)
    num_passed = watched.num_passed
    if watched.breaker is not None and watched.breaker.state == "half_open":
        old = [each for each in watched.seen if now_us - each.end_us >= params.window_us]
        num_passed += sum(each.num_rows for each in old if each.start_us >= watched.breaker.since_us)
    return replace(watched, seen=seen, num_passed=num_passed)


def _due(name: str, watched: Watched, now_us: int, params: BreakerParams) -> MemoryCommand | None:
    """The move that is due for a version, or None."""
    if watched.breaker is None:
        return _opened(name, watched.seen, now_us, params)
    if watched.breaker.state == "open":
        return _half_opened(watched.breaker, now_us)
    return _judged(watched.breaker, watched, now_us, params)


def _opened(name: str, seen: tuple[Seen, ...], now_us: int, params: BreakerParams) -> MemoryCommand | None:
    # The gate's window may be here before the executor's: it counts once the rows that it failed some of are told.
    told_us = max((each.end_us for each in seen if each.num_rows), default=0)
    rows = sum(each.num_rows for each in seen)
    faults = sum(each.num_faults for each in seen if each.num_rows or each.end_us <= told_us)
    rows = max(rows, faults)
    if rows < params.min_rows or faults * 100 < rows * params.faulty_percent:
        return None
    model, _, version = name.partition("/")
    reason = f"{faults} of {rows} rows of {model} {version} failed within {params.window_us // 1_000_000} s"
    return _command("OpenBreaker", Breaker(model, version, "open", reason, now_us, params.open_us))


def _half_opened(breaker: Breaker, now_us: int) -> MemoryCommand | None:
    if now_us < breaker.until_us:
        return None
    name, spent_s = f"{breaker.model} {breaker.version}", breaker.open_us // 1_000_000
    reason = f"{name} got no rows for {spent_s} s; a few of them go to it to see"
    return _command("HalfOpenBreaker", replace(breaker, state="half_open", reason=reason, since_us=now_us))


def _judged(breaker: Breaker, watched: Watched, now_us: int, params: BreakerParams) -> MemoryCommand | None:
    """Of a half-open breaker only windows count that began after it moved: earlier rows were no probes."""
    probes = [each for each in watched.seen if each.start_us >= breaker.since_us]
    name, faults = f"{breaker.model} {breaker.version}", sum(each.num_faults for each in probes)
    if faults:
        open_us = min(2 * breaker.open_us, params.max_open_us)
        reason = f"{faults} of the rows that {name} was tried with failed; it gets none for {open_us // 1_000_000} s"
        return _command("OpenBreaker", replace(breaker, state="open", reason=reason, since_us=now_us, open_us=open_us))
    settled = sum(each.num_rows for each in probes if now_us - each.end_us >= params.settle_us)
    passed = watched.num_passed + settled
    if passed >= params.min_probes:
        reason = f"{passed} rows of {name} passed and none failed"
    elif not passed and not probes and now_us - breaker.since_us >= params.idle_us:
        reason = f"no row tried {name} within {params.idle_us // 1_000_000} s"
    else:
        return None
    return _command("CloseBreaker", replace(breaker, reason=reason), now_us)


def _command(kind: str, breaker: Breaker, now_us: int = 0) -> MemoryCommand:
    """The id follows from the move, so that the same move asked for again is no second one."""
    key, since_us = f"breaker/{breaker.model}/{breaker.version}", breaker.since_us
    body = "" if kind == "CloseBreaker" else to_json(breaker)
    sent_us = now_us or since_us
    identity = f"{key}/{kind}/{sent_us}"
    return MemoryCommand(identity, "monitor", kind, key, ANY_VERSION, body, breaker.reason, (), sent_us)

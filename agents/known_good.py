"""When a configuration proved itself in service, by what the Validators tell of its rows. Pure; a part of the Monitor.

A configuration is an active version and how it is served: its serving policy and its cache policy. Where one of them
changes otherwise than in what it promises (``schemas.known_good.Configuration``), another one has to prove itself.
It is known as good once it answered ``min_rows`` rows over ``min_us``, at most ``bad_percent`` of them
ended as ERROR or EXPIRED, the newest news is not older than ``fresh_us``, and no alert stands against its model. An
alert that stands makes the count begin anew after it. Then the Orchestrator is asked to note it (``MarkVersionGood``);
unanswered, it is asked again after ``retry_us``. Its first ``loading_us`` prove nothing: while executors load it, its
SLO does not judge its times (``agents.slo``), and it is not to be known as good before it was judged. Once for each
time that it comes into force: after a roll-back it proves itself anew.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agents.slo import ANSWERED
from schemas.cache import CachePolicy
from schemas.coordinate import RecordCoordinate
from schemas.known_good import Configuration, GoodVersion, KnownGood
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import Plan
from schemas.serving import ServingPolicy
from schemas.telemetry import Telemetry
from streams.agent import Event
from streams.canonical import digest, from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion

GOOD: Final = "good/"
ANY_VERSION: Final = -1


@dataclass(frozen=True, slots=True)
class GoodParams:
    """Microseconds, rows, and percent of rows that may be bad."""

    min_rows: int = 200
    min_us: int = 60_000_000
    bad_percent: int = 5
    fresh_us: int = 5_000_000
    loading_us: int = 5_000_000
    retry_us: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Proving:
    """The active version of a model since ``since_us``: its rows from ``first_us`` to ``last_us`` (0: none yet).

    ``since_us``: when it became active or was served otherwise than before. ``is_marked``: memory knows it as good
    since then. ``asked_us``: when that was asked for last. ``served``: how it is served; None where that is not known,
    for what stands was set before the release that follows it.
    """

    version: str
    since_us: int
    plan_digest: str = ""
    num_rows: int = 0
    num_bad: int = 0
    first_us: int = 0
    last_us: int = 0
    is_marked: bool = False
    asked_us: int = 0
    cause: RecordCoordinate | None = None
    served: Configuration | None = None


Goods = Mapping[str, Proving]
"""By model."""


def active_version(state: Goods, model: str) -> str:
    """The active version of a model as memory had it last, empty where it knows none."""
    known = state.get(model)
    return "" if known is None else known.version


def is_served_otherwise(before: Goods, after: Goods, change: MemoryEvent) -> bool:
    """Whether a change had a model's rows served otherwise, by the same version."""
    model = change.key.partition("/")[2]
    was, now = before.get(model), after.get(model)
    return was is not None and now is not None and was.version == now.version and now.since_us > was.since_us


def learn(state: Goods, change: MemoryEvent) -> Goods:
    """Follow memory: which version serves by which plan, and what is known as good."""
    space, _, model = change.key.partition("/")
    known = state.get(model)
    try:
        if space == "active":
            active = from_json(ActiveVersion, change.body or "", newer=True)
            # nothing can be set for a model before its first version
            first = Proving("", 0, served=Configuration() if change.version == 1 else None)
            return {**state, model: _anew(known or first, change.time_us, version=active.version)}
        if space in ("serving", "cache") and known is not None and known.served is not None:
            return {**state, model: _served(known, known.served, space, change)}
        if space == "plan":
            plan = from_json(Plan, change.body or "", newer=True)
            known = known or Proving(plan.versions[0].version, change.time_us)  # activated under an older release
            return {**state, model: replace(known, plan_digest=digest(plan).hex())}
        if space == "good" and known is not None and change.body is not None:
            good = from_json(KnownGood, change.body, newer=True)
            entry = good.of(known.version)
            if entry is not None and entry.since_us >= known.since_us:
                return {**state, model: replace(known, is_marked=True)}
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body; whatever it is, it proves nothing
    return state


def _served(known: Proving, before: Configuration, space: str, change: MemoryEvent) -> Proving:
    """A policy of the model is another one; where rows are served otherwise by it, the proof begins anew."""
    if space == "serving":
        serving = None if change.body is None else from_json(ServingPolicy, change.body, newer=True)
        after = replace(before, serving=serving)
    else:
        cache = None if change.body is None else from_json(CachePolicy, change.body, newer=True)
        after = replace(before, cache=cache)
    anew = _anew(known, change.time_us) if after.differences(before) else known
    return replace(anew, served=after)


def _anew(known: Proving, since_us: int, version: str = "") -> Proving:
    """What serves from ``since_us`` on has shown nothing yet."""
    return Proving(version or known.version, since_us, known.plan_digest, served=known.served)


def hear(state: Goods, window: Telemetry, event: Event, params: GoodParams) -> Goods:
    """Count the rows of active versions that are still to prove themselves; the same object where there are none."""
    if window.stage != ANSWERED:
        return state
    end_us = min(event.now_us, window.window_start_us + window.window_us)
    heard: dict[str, Proving] = {}
    for part in window.models:
        known = heard.get(part.model) or state.get(part.model)
        bad = part.num_error + part.num_expired
        if known is None or known.is_marked or part.version != known.version or not part.num_ok + bad:
            continue
        if window.window_start_us < known.since_us + params.loading_us:
            continue
        heard[part.model] = replace(
            known,
            num_rows=known.num_rows + part.num_ok + bad,
            num_bad=known.num_bad + bad,
            first_us=known.first_us or window.window_start_us,
            last_us=max(known.last_us, end_us),
            cause=event.coordinate,
        )
    return {**state, **heard} if heard else state


def judge(
    state: Goods, troubled: Container[str], now_us: int, params: GoodParams
) -> tuple[Goods, tuple[MemoryCommand, ...]]:
    """Ask for what is due; the same object where nothing changes. ``troubled``: models against which alerts stand."""
    changed: dict[str, Proving] = {}
    commands: list[MemoryCommand] = []
    for model, known in sorted(state.items()):
        if known.is_marked or not known.num_rows:
            continue
        if model in troubled:
            changed[model] = _anew(known, known.since_us)
        elif _has_proved_itself(known, now_us, params):
            changed[model] = replace(known, asked_us=now_us)
            commands.append(_command(model, known, now_us))
    return ({**state, **changed} if changed else state), tuple(commands)


def _has_proved_itself(known: Proving, now_us: int, params: GoodParams) -> bool:
    if known.num_rows < params.min_rows or known.last_us - known.first_us < params.min_us:
        return False
    is_asked = known.asked_us and now_us - known.asked_us < params.retry_us
    is_fresh = now_us - known.last_us <= params.fresh_us
    return is_fresh and not is_asked and known.num_bad * 100 <= known.num_rows * params.bad_percent


def _command(model: str, known: Proving, now_us: int) -> MemoryCommand:
    entry = GoodVersion(known.version, known.plan_digest, known.since_us, now_us, known.num_rows, known.served)
    seconds = (known.last_us - known.first_us) // 1_000_000
    reason = f"{model} {known.version} served {known.num_rows} rows over {seconds} s, {known.num_bad} of them badly"
    causes = () if known.cause is None else (known.cause,)
    key, body = f"{GOOD}{model}", to_json(KnownGood(model, (entry,)))
    identity = f"{key}/{known.version}/{now_us}"
    return MemoryCommand(identity, "monitor", "MarkVersionGood", key, ANY_VERSION, body, reason, causes, now_us)

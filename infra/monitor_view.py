"""What ``isos status`` shows of heartbeats and telemetry: the Monitor's own fold, over the newest records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any, Final

from agents.departure import depart
from agents.monitor import Params, State, fold_heartbeat, fold_telemetry, model_rates
from infra.log_reader import LogReader
from infra.settings import Settings
from schemas.coordinate import RecordCoordinate
from schemas.load import ExecutorLoad
from schemas.scaling import ScaleConfirmation
from schemas.telemetry import Heartbeat, Telemetry
from streams.connection import Connection
from streams.edge.forecast import Forecast
from streams.edge.service import FORGET_US
from streams.errors import RetriableError
from streams.memory_fold import extend
from streams.memory_view import MemoryView, all_breakers, incidents

NEWEST: Final = 500
NEWEST_LOADS: Final = 64
LIMIT_S: Final = 4.0
RESULTS_STAGE: Final = "validator"
HEDGE_STAGE: Final = "hedge"
SLO_BURN: Final = "slo_burn"


def read_monitor(settings: Settings) -> dict[str, Any] | None:
    """Figures of now, or None when the broker does not give them within ``LIMIT_S``."""
    try:
        return asyncio.run(_within(LIMIT_S, _read(Connection(settings.bootstrap))))
    except (RetriableError, TimeoutError):
        return None


def folded(
    heartbeats: Iterable[tuple[int, Heartbeat]],
    windows: Iterable[Telemetry],
    now_us: int,
    ended: Iterable[ScaleConfirmation] = (),
) -> State:
    """The Monitor's state from (offset, heartbeat) pairs and windows, in the order of the log, without who ended."""
    state = State()
    for offset, heartbeat in heartbeats:
        state = fold_heartbeat(state, heartbeat, now_us, RecordCoordinate("control.heartbeats", 0, offset))
    for confirmation in ended:
        state = replace(state, processes=depart(state.processes, {}, confirmation, now_us)[0])
    for window in windows:
        state = fold_telemetry(state, window)
    return state


def figures(state: State, memory: MemoryView, now_us: int) -> dict[str, Any]:
    """One flat row: who is heard and who is silent, memory, and the rates of results and of hedged copies."""
    silent_us = Params().silent_us
    silent = [name for name, status in sorted(state.processes.items()) if now_us - status.heard_us >= silent_us]
    every_rate = model_rates(state, now_us)
    rates = [rate for rate in every_rate if rate.stage == RESULTS_STAGE]
    rows_per_s = sum(rate.rows_per_s for rate in rates)
    mean_us = sum(rate.mean_us * rate.rows_per_s for rate in rates) / rows_per_s if rows_per_s else 0.0
    return {
        "heard": len(state.processes) - len(silent),
        "silent": ", ".join(silent) or "-",
        "open_incidents": len(incidents(memory)),
        "slo_burn": ", ".join(sorted({each.subject for each in incidents(memory) if each.kind == SLO_BURN})) or "-",
        "open_breakers": sum(len(each) for each in all_breakers(memory).values()),
        "memory_sequence": memory.sequence,
        "results_per_s": round(rows_per_s, 1),
        "ok_per_s": round(sum(rate.ok_per_s for rate in rates), 1),
        "hedged_per_s": round(sum(rate.rows_per_s for rate in every_rate if rate.stage == HEDGE_STAGE), 1),
        "mean_ms": round(mean_us / 1e3, 1),
        "max_ms": round(max((rate.max_us for rate in rates), default=0) / 1e3, 1),
    }


def executors(heartbeats: Iterable[Heartbeat], now_us: int) -> dict[str, Any]:
    """Of the executors that are heard: where models run, and the means of their busy and useful shares and batch fill.

    ``models_on`` holds the providers, and in brackets the setting where it left the choice open.
    """
    newest = {each.instance: each for each in heartbeats if each.execution_provider}
    heard = [each for each in newest.values() if now_us - each.sent_us < Params().silent_us]
    places = sorted({each.execution_provider + (" (auto)" if each.device == "auto" else "") for each in heard})

    def mean(shares: Iterable[float]) -> float:
        return round(sum(shares) / max(1, len(heard)), 3)

    return {
        "models_on": ", ".join(places) or "-",
        "busy": mean(each.busy for each in heard),
        "useful": mean(each.useful for each in heard),
        "batch_fill": mean(each.batch_fill for each in heard),
    }


def longest_wait(reports: Iterable[ExecutorLoad], now_us: int) -> str:
    """The model version whose rows would wait longest now by its executor's report, and how long; "-" for none."""
    forecast = Forecast()
    for each in reports:
        if now_us - each.sent_us <= FORGET_US:
            forecast.take(each, now_us)
    waits = [(wait_us, *version) for version, wait_us in forecast.waits_us(now_us) if wait_us >= 1000]
    if not waits:
        return "-"
    wait_us, model, version = max(waits)
    return f"{model} {version}, {wait_us / 1000:.0f} ms"


async def _within(limit_s: float, reading: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(limit_s):
        return await reading


async def _read(connection: Connection) -> dict[str, Any]:
    reader = await LogReader.connect(connection)
    heartbeats = await reader.read("control.heartbeats", NEWEST)
    windows = await reader.read("control.telemetry", NEWEST)
    loads = await reader.read("control.executor-load", NEWEST_LOADS)
    ended = [each.record for each in await reader.read("control.scale-confirmations", NEWEST_LOADS)]
    memory, _ = extend(MemoryView(), await reader.memory_events())
    now_us = time.time_ns() // 1000
    heard = [(each.offset, each.record) for each in heartbeats]
    state = folded(heard, [each.record for each in windows], now_us, ended)
    return {
        **figures(state, memory, now_us),
        **executors([each.record for each in heartbeats], now_us),
        "longest_wait": longest_wait([each.record for each in loads], now_us),
    }

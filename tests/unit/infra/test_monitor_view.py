"""The figures of `isos status`: who is heard, who is silent, and how fast results come."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra import monitor_view
from infra.monitor_view import executors, figures, folded, longest_wait
from infra.settings import load_settings
from schemas.load import ExecutorLoad, VersionLoad
from schemas.memory import MemoryEntry
from schemas.scaling import ScaleConfirmation
from schemas.telemetry import Heartbeat, ModelWindow, Telemetry
from streams.canonical import to_json
from streams.memory_view import Incident, MemoryView

SECOND = 1_000_000


def beat(role: str, sent_us: int) -> tuple[int, Heartbeat]:
    return 0, Heartbeat(role, 0, 1, 1, sent_us, 3)


def window(stage: str, start_s: int) -> Telemetry:
    part = ModelWindow("digits", "v1.0.0", 100, 99, 1, 0, 0, 500_000, 9_000)
    return Telemetry(stage, 0, start_s * SECOND, SECOND, 5, 0, (part,))


def test_who_was_ended_by_scaling_is_not_silent() -> None:
    beats = [beat("edge", 19 * SECOND), beat("executor", 5 * SECOND)]
    ended = ScaleConfirmation("a1", "executors", 0, "done", 6 * SECOND, "", ("executor-0",))
    before, after = (
        figures(folded(beats, (), 20 * SECOND, each), MemoryView(), 20 * SECOND) for each in ((), (ended,))
    )
    assert (before["silent"], after["silent"]) == ("executor-0", "-")
    assert (before["heard"], after["heard"]) == (1, 1)


def test_figures() -> None:
    now_us = 20 * SECOND
    hedges = [replace(window("hedge", 18), models=()), window("hedge", 19)]
    state = folded(
        [beat("edge", 19 * SECOND), beat("router", 2 * SECOND)],
        [window("validator", 18), window("validator", 19), window("executor", 19), *hedges],
        now_us,
    )
    assert figures(state, MemoryView(sequence=3), now_us) == {
        "heard": 1,
        "silent": "router-0",
        "open_incidents": 0,
        "slo_burn": "-",
        "open_breakers": 0,
        "memory_sequence": 3,
        "results_per_s": 100.0,
        "ok_per_s": 99.0,
        "hedged_per_s": 50.0,
        "mean_ms": 5.0,
        "max_ms": 9.0,
    }


def test_models_whose_slo_burns_are_named_once() -> None:
    found = [
        Incident("a", "slo_burn", "digits", "critical", "late", ""),
        Incident("b", "slo_burn", "digits", "warning", "late", ""),
        Incident("c", "slo_burn", "agents", "warning", "late", ""),
        Incident("d", "breaker_open", "letters/v1.0.0", "critical", "failed", ""),
    ]
    keys = [f"incident/{each.incident_id}" for each in found]
    entries = {key: MemoryEntry(key, 1, 1, to_json(each), 0) for key, each in zip(keys, found, strict=True)}
    row = figures(folded([], [], 0), MemoryView(sequence=9, entries=MappingProxyType(entries)), 0)
    assert (row["open_incidents"], row["slo_burn"]) == (4, "agents, digits")


def test_who_waits_longest() -> None:
    now_us = 20 * SECOND

    def report(model: str, num_items: int, sent_us: int = now_us, executor: str = "executor-0") -> ExecutorLoad:
        one = VersionLoad(model, "v1.0.0", 0.0, 1000.0, 4, False, 0.0, 0, 0, (0, num_items))
        return ExecutorLoad(executor, sent_us, sent_us, 2, (one,))

    assert longest_wait([], now_us) == "-"
    assert longest_wait([report("digits", 4000, 10 * SECOND)], now_us) == "-"
    assert longest_wait([report("digits", 4000), report("digits", 0)], now_us) == "-"
    others = report("other", 40, executor="executor-1")
    assert longest_wait([report("digits", 4000), others], now_us) == "digits v1.0.0, 4000 ms"


def test_where_models_run_and_how_much_of_the_time() -> None:
    now_us = 20 * SECOND
    beats = [
        Heartbeat("executor", 0, 1, 1, 18 * SECOND, 3, (), "auto", "CPU", 0.9, 0.9, 0.9),
        Heartbeat("executor", 0, 1, 1, 19 * SECOND, 3, (), "auto", "CPU", 0.5, 0.25, 0.125),
        Heartbeat("executor", 1, 1, 1, 19 * SECOND, 3, (), "auto", "CPU", 0.1, 0.05, 0.375),
        Heartbeat("executor", 2, 1, 1, SECOND, 3, (), "cuda", "CUDA", 1, 1, 1),
        beat("router", 19 * SECOND)[1],
    ]
    assert executors(beats, now_us) == {"models_on": "CPU (auto)", "busy": 0.3, "useful": 0.15, "batch_fill": 0.25}
    assert executors([], now_us) == {"models_on": "-", "busy": 0.0, "useful": 0.0, "batch_fill": 0.0}


def test_a_broker_that_does_not_answer_costs_the_limit_and_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def silent(connection: object) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(monitor_view, "_read", silent)
    monkeypatch.setattr(monitor_view, "LIMIT_S", 0.01)
    assert monitor_view.read_monitor(load_settings(data_dir=tmp_path)) is None


def test_nothing_heard_is_zero() -> None:
    row = figures(folded([], [], 0), MemoryView(), 0)
    assert (row["heard"], row["silent"], row["results_per_s"], row["mean_ms"]) == (0, "-", 0, 0.0)

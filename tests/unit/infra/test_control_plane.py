"""Composition of the control plane: every journaled agent once, with what settings and rules file give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agents.drift_case import DriftParams
from agents.monitor import Params
from agents.orchestrator import ORCHESTRATOR
from infra.control_plane import control_specs
from infra.rules import load_rules
from infra.settings import load_settings
from streams.topics import JOURNALED_AGENTS, TOPICS


def test_every_control_agent_runs_once(tmp_path: Path) -> None:
    specs = (ORCHESTRATOR, *control_specs(load_settings(data_dir=tmp_path)))
    assert sorted(spec.name for spec in specs) == sorted(JOURNALED_AGENTS)
    assert all(spec.journaled for spec in specs)


def test_settings_and_rules_reach_the_agents(tmp_path: Path) -> None:
    specs = {spec.name: spec for spec in control_specs(load_settings(data_dir=tmp_path, default_timeout_ms=1_234))}
    assert specs["planner"].params.timeout_ms == 1_234
    assert specs["monitor"].params.drift == DriftParams()
    other = {
        spec.name: spec for spec in control_specs(load_settings(data_dir=tmp_path, drift_window_s=7, drift_min_rows=33))
    }
    assert other["monitor"].params == replace(Params(), drift=DriftParams(window_us=7_000_000, min_rows=33))
    assert specs["researcher"].params.rules == load_rules(tmp_path)


def test_agents_consume_single_partitions_and_write_what_the_table_grants(tmp_path: Path) -> None:
    for spec in (ORCHESTRATOR, *control_specs(load_settings(data_dir=tmp_path))):
        for name in (*spec.consumes, *spec.watches):
            assert TOPICS[name].partitions == 1, (spec.name, name)
        for name in spec.emits:
            assert {spec.name, "every agent"} & set(TOPICS[name].writers), (spec.name, name)

"""`isos models drift`: what was counted lately beside the reference; without a broker, a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.drift_case import DriftParams, compared
from infra.commands.drift import counted, measure_rows
from infra.commands.models import app
from streams.canonical import to_json
from streams.references import reference_id
from tests.support import drift

NOW_US = 1_000_000_000
REFERENCE = drift.reference()
NAMED = reference_id(to_json(REFERENCE))


def test_windows_of_the_last_seconds_count_and_others_do_not() -> None:
    windows = [
        drift.told(REFERENCE, drift.rows(100, 1), NOW_US - 1_000_000),
        drift.told(REFERENCE, drift.rows(50, 2), NOW_US - 30_000_000, "executor-1"),
        drift.told(REFERENCE, drift.rows(400, 3), NOW_US - 90_000_000),
        drift.told(drift.reference(300), drift.rows(400, 4), NOW_US),
    ]
    total = counted(REFERENCE, NAMED, windows, NOW_US, 60)
    assert total is not None
    assert (total.num_sampled, total.num_rows) == (150, 450)
    assert counted(REFERENCE, NAMED, windows[2:], NOW_US, 60) is None


def test_a_reference_of_another_release_is_known_by_its_body_as_it_stands() -> None:
    told = replace(drift.told(REFERENCE, drift.rows(100, 1), NOW_US), reference="as it was hashed then")
    assert counted(REFERENCE, NAMED, [told], NOW_US, 60) is None
    assert counted(REFERENCE, told.reference, [told], NOW_US, 60) is not None


def test_the_worst_measure_comes_first() -> None:
    inputs = drift.rows(400, 5)
    inputs[:, 3] += 2
    rows = measure_rows(compared(REFERENCE, drift.told(REFERENCE, inputs, 5).measures, DriftParams()))
    assert (rows[0]["measure"], rows[0]["drifts"], rows[-1]["drifts"]) == ("x[3]", True, False)
    assert len(rows) == 12


def test_a_broker_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["drift", "digits"])
    assert done.exit_code == 6
    assert "The broker does not answer" in done.stderr

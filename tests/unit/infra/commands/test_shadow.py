"""`isos models shadow`: what stands and how the copies did, as data and as sentences; without a broker, a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.commands.models import app
from infra.commands.shadow import described, said, table_row
from infra.shadow_figures import figures
from schemas.shadow import ShadowPolicy
from tests.support.frames import MODEL, memory
from tests.support.shadowed import SHADOWING, shadowed
from tests.unit.infra.test_serving_control import with_entry
from tests.unit.infra.test_shadow_figures import ONE, compared

POLICY = ShadowPolicy("digits", SHADOWING, 10)


def test_what_stands_is_a_document_and_a_sentence() -> None:
    view = with_entry(shadowed(10), "shadow/digits", POLICY)
    document = described(view, "digits", [])
    assert (document["shadow"], document["percent"], document["planned"]) == (SHADOWING, 10, True)
    assert said(document) == f"10 % of digits's rows are copied to v1.1.0 (memory {view.sequence})."
    unplanned = described(with_entry(memory(MODEL), "shadow/digits", POLICY), "digits", [])
    assert unplanned["planned"] is False
    assert "but not by the plan" in said(unplanned)
    none = described(memory(MODEL), "digits", [])
    assert (none["shadow"], none["percent"]) == (None, 0)
    assert said(none).startswith("digits has no shadow")


def test_figures_fit_a_line() -> None:
    (row,) = figures([compared([ONE, ONE], [ONE, ONE])], "digits")
    line = table_row(row)
    assert (line["rows"], line["failed"], line["agreement"], line["primary_p50_ms"]) == (2, 0, "100.00 %", "0.0")
    empty = table_row({**row, "agreement": None, "p50_ms": None})
    assert (empty["agreement"], empty["p50_ms"]) == ("-", "-")


def test_a_version_or_off_but_not_both() -> None:
    done = CliRunner().invoke(app, ["shadow", "digits", "v1.1.0", "--off"])
    assert done.exit_code == 2
    assert "either a version or --off" in done.output


def test_a_broker_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    for given in (["shadow", "digits"], ["shadow", "digits", "v1.1.0", "--percent", "5"]):
        done = CliRunner().invoke(app, given)
        assert done.exit_code == 6
        assert "The broker does not answer" in done.stderr

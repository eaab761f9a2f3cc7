"""`isos serving` without a broker: what is wrong with the arguments is said before anybody is asked."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import typer
from typer.testing import CliRunner

from infra.commands.serving import app, breaker_rows, policy_row, slo_or_usage, table_row
from schemas.memory import MemoryEntry
from schemas.serving import Breaker, ServingPolicy, Slo
from streams.canonical import to_json
from streams.memory_view import ActiveVersion
from tests.support.frames import MODEL, memory


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "digits"), "say what to change; `isos serving show MODEL` shows what stands"),
        (("set", "digits", "--fallback", "v1.0.0", "--no-fallback"), "either --fallback VERSION or --no-fallback"),
        (("set", "digits", "--max-attempts", "6"), "less than or equal to 5"),
        (("set", "digits", "--slo-ms", "170"), "the nearest latency target is 150 or 200 ms"),
        (("set", "digits", "--slo-ms", "-3"), "the nearest latency target is 1 ms"),
        (("set", "digits", "--slo-share", "0.5"), "greater than or equal to 0.9"),
        (("set", "digits", "--slo-error-share", "0.2"), "less than or equal to 0.1"),
        (("set", "digits", "--slo-ms", "250", "--no-slo"), "either --no-slo or what the SLO is to be"),
        (("set",), "Missing argument"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [("show", "digits"), ("show",), ("set", "digits", "--hedge")])
def test_a_broker_that_is_away(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 6
    assert "The broker does not answer" in done.stderr


def test_a_row_is_the_policy_beside_the_active_version() -> None:
    view = memory(MODEL, ActiveVersion("digits", "v1.0.0"))
    assert policy_row(ServingPolicy("digits", ("v2.0.0",)), view) == {
        "model": "digits", "active_version": "v1.0.0", "fallbacks": ["v2.0.0"], "max_attempts": 2, "hedge": False,
        "breaker": True, "slo": None, "auto_rollback": True,
    }  # fmt: skip


def test_an_slo_is_shown_as_shares_and_in_a_table_as_a_text() -> None:
    view = memory(MODEL, ActiveVersion("digits", "v1.0.0"))
    policy = ServingPolicy("digits", slo=Slo(250, 1_000))
    row = policy_row(policy, view)
    assert row["slo"] == {"latency_ms": 250, "share": 0.999, "error_share": None}
    assert table_row(row, policy)["slo"] == "99.9 % within 250 ms"
    errors = ServingPolicy("digits", slo=Slo(error_ppm=1_000))
    assert policy_row(errors, view)["slo"] == {"latency_ms": None, "share": None, "error_share": 0.001}
    assert table_row(policy_row(ServingPolicy("digits"), view), ServingPolicy("digits"))["slo"] is None


def test_flags_change_what_stands_of_an_slo() -> None:
    assert slo_or_usage(Slo(250, 1_000), None, None, 0.01) == Slo(250, 1_000, 10_000)
    with pytest.raises(typer.BadParameter, match="needs a latency target"):
        slo_or_usage(None, None, 0.99)


def test_breakers_are_shown_with_how_long_they_stay_open() -> None:
    now_us = time.time_ns() // 1000
    found = (
        Breaker("digits", "v1.0.0", "open", "20 of 20 rows failed", now_us, 15_000_000),
        Breaker("digits", "v2.0.0", "half_open", "to see", now_us, 15_000_000),
    )
    keys = [f"breaker/digits/{each.version}" for each in found]
    entries = {key: MemoryEntry(key, 1, 9, to_json(each), 5) for key, each in zip(keys, found, strict=True)}
    view = replace(memory(MODEL), entries=MappingProxyType(entries))
    opened, half = breaker_rows(view, "digits")
    assert (opened["version"], opened["state"], opened["reason"]) == ("v1.0.0", "open", "20 of 20 rows failed")
    assert 13 <= opened["seconds_left"] <= 15
    assert (half["state"], half["seconds_left"]) == ("half_open", 0)
    assert breaker_rows(view, "letters") == []

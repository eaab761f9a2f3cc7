"""`isos serving` without a broker: what is wrong with the arguments is said before anybody is asked."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from typer.testing import CliRunner

from infra.commands.serving import app, breaker_rows, policy_row
from schemas.memory import MemoryEntry
from schemas.serving import Breaker, ServingPolicy
from streams.canonical import to_json
from streams.memory_view import ActiveVersion
from tests.support.frames import MODEL, memory


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "digits"), "say what to change; `isos serving show MODEL` shows what stands"),
        (("set", "digits", "--fallback", "v1.0.0", "--no-fallback"), "either --fallback VERSION or --no-fallback"),
        (("set", "digits", "--max-attempts", "6"), "less than or equal to 5"),
        (("show",), "Missing argument"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [("show", "digits"), ("set", "digits", "--hedge")])
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
        "breaker": True,
    }  # fmt: skip


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

"""`isos cache` without a broker: what is wrong with the arguments is said before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.commands.cache import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("enable", "digits", "--ttl", "soon"), "'soon' is no span like 90s, 10m, 1h"),
        (("enable", "digits", "--ttl", "0s"), "is no span"),
        (("flush",), "give either a model or --all"),
        (("flush", "digits", "--all"), "give either a model or --all"),
        (("stats", "--since", "1"), "is no span"),
        (("warm", "digits"), "give either --file FILE or --hottest NUMBER"),
        (("warm", "digits", "--file", "x.jsonl", "--hottest", "3"), "give either --file FILE or --hottest NUMBER"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("verb", ["list", "stats"])
def test_a_broker_that_is_away(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, [verb])
    assert done.exit_code == 6
    assert "The broker does not answer" in done.stderr

"""The command hands the scenario on and returns its verdict."""

from typer.testing import CliRunner

from infra.bench import run
from infra.bench.scenario import SCENARIOS
from infra.commands.bench import app


def test_exit_code_is_the_verdict(monkeypatch):
    asked = []
    monkeypatch.setattr(run, "run_named", lambda *given: asked.append((given[0], *given[2:])) or 7)
    assert CliRunner().invoke(app, ["smoke"]).exit_code == 7
    assert CliRunner().invoke(app, ["--repeat", "3"]).exit_code == 7
    given = ["scaling", "--param", "row_ms=2", "--param", "base_rps=9"]
    assert CliRunner().invoke(app, given).exit_code == 7
    assert asked == [("smoke", 1, ()), ("headline", 3, ()), ("scaling", 1, ["row_ms=2", "base_rps=9"])]


def test_the_help_names_every_scenario():
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert all(name in text for name in SCENARIOS)

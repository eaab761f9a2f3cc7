"""The command hands the scenario on and returns its verdict."""

from typer.testing import CliRunner

from infra.bench import run
from infra.commands.bench import app


def test_exit_code_is_the_verdict(monkeypatch):
    asked = []
    monkeypatch.setattr(run, "run_named", lambda name, settings: asked.append(name) or 7)
    assert CliRunner().invoke(app, ["smoke"]).exit_code == 7
    assert CliRunner().invoke(app, []).exit_code == 7
    assert asked == ["smoke", "headline"]

"""The command hands on whether to keep the stack, and the time of the first line."""

import pytest
from typer.testing import CliRunner

import infra.demo
from infra.commands.demo import app


@pytest.mark.parametrize(
    ("arguments", "environment", "keep"),
    [([], {}, False), (["--keep"], {}, True), ([], {"KEEP": "1"}, True), ([], {"KEEP": ""}, False)],
)
def test_keep_and_start(monkeypatch, arguments, environment, keep):
    seen = []
    monkeypatch.setattr(infra.demo, "run", lambda settings, **asked: seen.append(asked) or 0)
    done = CliRunner().invoke(app, arguments, env={"ISOS_STARTED_AT": "12.5", **environment})
    assert done.exit_code == 0
    assert seen == [{"keep": keep, "started_at": 12.5}]

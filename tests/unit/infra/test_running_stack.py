"""A stack is started and stopped once, or left alone when it ran already; results appear whole."""

import json

import pytest

from infra import running_stack as module
from infra.running_stack import running_stack, write_result


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(module, "up_detached", lambda settings: made.append("up"))
    monkeypatch.setattr(module, "stop_stack", lambda settings: made.append("down"))
    monkeypatch.setattr(module, "is_running", lambda settings: False)
    return made


def test_started_and_stopped(calls):
    with running_stack(None) as seconds:
        assert seconds >= 0
        assert calls == ["up"]
    assert calls == ["up", "down"]


def test_stopped_also_after_an_error(calls):
    with pytest.raises(ValueError, match="broken"), running_stack(None):
        raise ValueError("broken")
    assert calls == ["up", "down"]


def test_kept(calls):
    with running_stack(None, keep=True):
        pass
    assert calls == ["up"]


def test_one_that_runs_is_not_touched(calls, monkeypatch):
    monkeypatch.setattr(module, "is_running", lambda settings: True)
    with running_stack(None) as seconds:
        assert seconds is None
    assert calls == []


def test_result_replaces_the_one_before(tmp_path):
    folder = tmp_path / "results"
    assert write_result("demo", {"ok": 1}, folder) == write_result("demo", {"ok": 2}, folder)
    assert json.loads((folder / "demo.json").read_text()) == {"ok": 2}
    assert [path.name for path in folder.iterdir()] == ["demo.json"]

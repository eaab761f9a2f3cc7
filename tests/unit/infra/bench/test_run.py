"""Which folder a benchmark uses, and when it looks at the processes; whole runs are `make bench`."""

import os

import pytest

from infra.bench import run
from infra.bench.config import Config
from infra.settings import StartError, load_settings


def test_an_unknown_scenario_is_a_usage_error(tmp_path):
    with pytest.raises(StartError, match="headline") as raised:
        run.run_named("nothing", load_settings(data_dir=tmp_path))
    assert raised.value.exit_code == 2


def test_its_own_folder_is_emptied_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.delenv("ISOS_DATA_DIR", raising=False)
    (tmp_path / "bench" / "kafka").mkdir(parents=True)
    (tmp_path / "kept").touch()
    settings = run.own_folder(load_settings(data_dir=tmp_path))
    assert settings.data_dir == tmp_path / "bench"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_chosen_folder_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    (tmp_path / "bench").mkdir()
    settings = load_settings()
    assert run.own_folder(settings) == settings
    assert (tmp_path / "bench").exists()


def test_looks_frame_the_measured_stretch(monkeypatch):
    now = iter([0.0, 0.5, 1.5, 2.5, 3.5, 4.5])
    looks = iter("abcdefgh")
    monkeypatch.setattr(run.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(run, "sample", lambda pids: next(looks))
    config = Config("b", 1, (), 1.0, "out", "r", seconds=4.0, warmup_s=1.0)
    lines = iter(["sent 1\n", "sent 2\n", "sent 3\n", "sent 4\n", "sent 5\n", "drained\n"])
    # a: before the start, b: in the warm-up, c: its end, d and e: measured; the line at 4.5 s is after the end.
    assert run._look(config, {}, lines) == ("c", "e")


def test_processes_come_from_the_state_file(monkeypatch):
    rows = [{"name": "edge-0", "pid": 7}, {"name": "gone", "pid": None}]
    monkeypatch.setattr(run, "read_state", lambda settings: {"processes": rows, "supervisor": {"pid": os.getpid()}})
    assert run._pids(load_settings()) == {"edge-0": 7, "supervisor": os.getpid()}

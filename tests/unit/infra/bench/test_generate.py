"""Looks at processes come with the generator's lines; whole runs are `make bench`."""

import os

from infra.bench import generate
from infra.settings import load_settings


def test_a_look_before_and_one_with_each_line_of_progress(monkeypatch):
    looks = iter("abcdef")
    seen = iter(range(3))
    monkeypatch.setattr(generate, "sample", lambda pids: f"{next(looks)}{pids['generator']}")
    lines = iter(["sent 1 acknowledged 1\n", "sent 2 acknowledged 2\n", "drained\n", "sent 3\n"])
    assert generate.look(lambda: {"generator": next(seen)}, lines) == ["a0", "b1", "c2"]


def test_processes_come_from_the_state_file(monkeypatch):
    rows = [{"name": "edge-0", "pid": 7}, {"name": "gone", "pid": None}]
    state = {"processes": rows, "supervisor": {"pid": os.getpid()}}
    monkeypatch.setattr(generate, "read_state", lambda settings: state)
    assert generate.process_ids(load_settings()) == {"edge-0": 7, "supervisor": os.getpid()}

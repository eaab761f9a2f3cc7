"""Looks at processes come with the generator's lines; whole runs are `make bench`."""

import os

from infra.bench import generate
from infra.settings import load_settings


def test_a_look_before_and_one_with_each_line_of_progress(monkeypatch):
    looks = iter("abcdef")
    monkeypatch.setattr(generate, "sample", lambda pids: next(looks))
    lines = iter(["sent 1 acknowledged 1\n", "sent 2 acknowledged 2\n", "drained\n", "sent 3\n"])
    assert generate.look({}, lines) == ["a", "b", "c"]


def test_processes_come_from_the_state_file(monkeypatch):
    rows = [{"name": "edge-0", "pid": 7}, {"name": "gone", "pid": None}]
    state = {"processes": rows, "supervisor": {"pid": os.getpid()}}
    monkeypatch.setattr(generate, "read_state", lambda settings: state)
    assert generate.process_ids(load_settings()) == {"edge-0": 7, "supervisor": os.getpid()}

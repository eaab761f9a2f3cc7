"""Configuration there and back, and what a run leaves on disk; sending is in tests/integration/test_load.py."""

import json

import numpy as np

from infra.bench.config import Config
from infra.bench.generator import _write, read_columns
from infra.bench.measure import Received, Sent, match, summarise


def test_columns_and_summary_are_read_back(tmp_path):
    numbers = [np.arange(3, dtype=np.int64) for _ in range(5)]
    sent = Sent(numbers[0] * 1000, numbers[1] * 1000, numbers[2] * 0, numbers[3], numbers[4])
    received = Received(
        numbers[0] * 0, numbers[1], numbers[2] * 1000 + 500, numbers[3] * 0 + 1, numbers[4] * 0, numbers[0]
    )
    matched = match(sent, received)
    summary = summarise(sent, matched, warmup_us=0)
    _write(Config("b", 1, (), 1.0, str(tmp_path / "load"), "r"), sent, matched, summary)
    sent_again, matched_again = read_columns(tmp_path / "load.npz")
    for name in Sent.__slots__:
        assert getattr(sent_again, name).tolist() == getattr(sent, name).tolist()
    assert matched_again.latency_us.tolist() == [500, 500, 500]
    assert json.loads((tmp_path / "load.json").read_text())["ok"] == 3

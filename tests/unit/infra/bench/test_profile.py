"""The document and the page of a profile; whole runs are `make profile`."""

import subprocess
import sys

import pytest

from infra.bench import profile
from infra.bench.flame import read_stacks
from infra.bench.phase import Phase
from infra.bench.profile import Flames, page, profile_document, table_of
from infra.bench.template import Load
from infra.bench.traffic import Traffic
from infra.settings import StartError, load_settings
from tests.support.fake_bench import measured

ROOTS = {"edge-0": read_stacks(["main (a.py);work (b.py) 9", "main (a.py) 1"])}


def made():
    plain = measured(Phase("cost", (Load("bench-00"),), 100.0, 8.0, 2.0), 5.0)
    names = ("inference.requests", "inference.routed")
    looks = (
        Traffic(dict.fromkeys(names, 0), dict.fromkeys(names)),
        Traffic(dict(zip(names, (1000, 200), strict=True)), {}),
    )
    return profile_document(plain, looks, ROOTS)


def test_cost_per_request_and_per_frame():
    (edge, generator, total) = made()["cost"]
    assert (edge["process"], generator["process"], total["process"]) == ("edge-0", "generator", "all")
    assert (edge["us_per_request"], edge["ms_per_frame"]) == (
        1000.0,
        5.0,
    )  # 10 % of a core, 100 requests/s, 20 frames/s
    assert made()["hottest"]["edge-0"][0] == ("work (b.py)", 0.9)


def test_the_page_has_table_and_graphs_and_needs_nothing_else():
    text = page(table_of(made()), ROOTS)
    assert "| edge-0 | 10.0 | 1000.0 |" in text
    assert text.count("<svg") == 1
    assert "http" not in text
    assert "<script" not in text


def test_a_python_process_is_sampled(tmp_path):
    busy = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: sum(range(1000))"], stdout=subprocess.PIPE
    )
    try:
        busy.stdout.readline()
        flames = Flames({"busy": busy.pid, "gone": 2**22 + 1}, tmp_path, 0.0, 1.0)
        flames.start()
        found = flames.stop()
    finally:
        busy.kill()
        busy.wait()
        busy.stdout.close()
    assert set(found) == {"busy"}
    assert found["busy"].samples > 0


def test_without_py_spy_it_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(profile, "SPY", tmp_path / "py-spy")
    with pytest.raises(StartError, match="make setup"):
        profile.run_profile(load_settings(data_dir=tmp_path), 1, 1, 1, 1)

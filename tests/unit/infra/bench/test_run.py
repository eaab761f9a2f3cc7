"""Which folder a benchmark uses, and what becomes of several runs; whole runs are `make bench`."""

import json

import pytest

from infra.bench import run
from infra.settings import StartError, load_settings
from tests.unit.infra.bench.test_report import made


def test_an_unknown_scenario_is_a_usage_error(tmp_path):
    with pytest.raises(StartError, match="headline") as raised:
        run.run_named("nothing", load_settings(data_dir=tmp_path))
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("param", ["rate=3", "row_ms", "row_ms=", "row_ms=-1", "row_ms=nan", "row_ms=inf"])
def test_a_parameter_that_is_none_is_a_usage_error(tmp_path, param):
    with pytest.raises(StartError, match="row_ms") as raised:
        run.run_named("scaling", load_settings(data_dir=tmp_path), params=[param])
    assert raised.value.exit_code == 2
    with pytest.raises(StartError, match="none"):
        run.parsed(run.SCENARIOS["smoke"], [param])


def test_parameters_are_numbers():
    assert run.parsed(run.SCENARIOS["scaling"], ["row_ms=2.5", "base_rps=9"]) == {"row_ms": 2.5, "base_rps": 9.0}


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


def test_the_median_run_is_written_with_a_page_of_plots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = iter([made("smoke", latency_ms=value) for value in (9.0, 5.0, 7.0)])
    monkeypatch.setattr(run, "_one", lambda scenario, settings, params: next(outcomes))
    assert run.run_named("smoke", load_settings(data_dir=tmp_path), repeat=3) == 0
    result = json.loads((tmp_path / "results" / "smoke.json").read_text())
    assert result["p99_ms"] == result["median"]["p99_ms"] == 7.0
    assert "smoke" in (tmp_path / "results" / "index.html").read_text()


def test_a_loss_in_any_of_the_runs_is_the_verdict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = iter([made("smoke"), made("smoke", answers=(0,))])
    monkeypatch.setattr(run, "_one", lambda scenario, settings, params: next(outcomes))
    assert run.run_named("smoke", load_settings(data_dir=tmp_path), repeat=2) == 7

"""One page of all results, from files alone."""

import json
from html.parser import HTMLParser

from infra.bench.plot_page import NAME, page, write_page
from tests.unit.infra.bench.test_report import made


class Reader(HTMLParser):
    """Collects tags, and addresses that would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loaded = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]


def test_a_section_per_scenario_with_its_plots_and_nothing_from_outside():
    curve = [{"rate": 100.0, "p50_ms": 5.0, "p99_ms": 9.0}, {"rate": 200.0, "p50_ms": 8.0, "p99_ms": 300.0}]
    results = [made("idle")[0], {**made("headline")[0], "curves": {"12 models": curve}}]
    text = page(results)
    reader = Reader(text)
    assert text.index('id="headline"') < text.index('id="idle"')
    assert reader.tags.count("svg") == 7
    assert reader.loaded == []
    assert "script" not in reader.tags
    for words in ("Knee: latency by offered rate, 12 models", "CPU by process", "mean_ms 5.0, at most 20: met"):
        assert words in text


def test_files_that_are_no_results_are_passed_over(tmp_path):
    (tmp_path / "idle.json").write_text(json.dumps(made("idle")[0]))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "demo.json").write_text(json.dumps({"scenario": "demo"}))
    assert write_page(tmp_path) == tmp_path / NAME
    text = (tmp_path / NAME).read_text()
    assert text.count("<h2") == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_no_results_is_a_page_that_says_so(tmp_path):
    assert "No results yet" in write_page(tmp_path).read_text()

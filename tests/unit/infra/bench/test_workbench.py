"""What is said of a phase; registering and loading need a stack, and are `make bench`."""

import io

from rich.console import Console

from infra.bench.phase import Phase
from infra.bench.template import Load
from infra.bench.workbench import Workbench, _figures, _words
from infra.settings import load_settings
from tests.support.fake_bench import measured


def test_a_phase_in_words():
    loads = (Load("model-a"),)
    assert _words(Phase("p", loads, 100, 10, 5)) == "100 a second for 15 s"
    assert _words(Phase("p", loads, steps=((1, 2), (3, 4)))) == "1 a second for 2 s, then 3 a second for 4 s"
    assert _figures(measured(Phase("p", loads, 100, 1, 0), 5.0)) == "100 of 100 OK, p50 5.0 ms, p99 5.0 ms"


def test_progress_goes_to_its_console():
    text = io.StringIO()
    Workbench(load_settings(), Console(file=text)).say("[12 models]")
    assert text.getvalue() == "[12 models]\n"

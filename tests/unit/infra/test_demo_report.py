"""Stage times add up to the latency, and every part of the report prints."""

import io

import numpy as np
import pytest
from rich.console import Console

from infra.demo_report import STAGES, latency_ms, next_steps, show_events, show_figures, show_ledger, stage_ms, stages
from schemas.memory import MemoryEvent
from schemas.result import InferenceResult, Provenance, Source, Timing
from streams.client.client import Answer
from streams.ledger import fold


def timed(scheduled=1_000_000, steps=(1_000, 2_000, 3_000, 4_000, 5_000, 6_000)):
    received, admitted, routed, executed, completed, read = scheduled + np.cumsum(steps)
    result = InferenceResult(
        "r", "default", int(received), Source(bytes(16), 0, 0), "OK", None, "digits", "v1.0.0",
        Provenance("", 0, "", "", 0, 0, "", "", False),
        Timing(int(admitted), int(routed), int(executed), int(completed)), (),
    )  # fmt: skip
    return scheduled, Answer({}, result, int(read))


def test_stages_add_up_to_the_latency():
    answers = [timed(), timed(5_000_000, (10, 20, 30, 40, 50, 60))]
    assert stage_ms(answers).tolist() == [[1, 2, 3, 4, 5, 6], [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]]
    assert stage_ms(answers).sum(axis=1) == pytest.approx(latency_ms(answers))


def printed(show, *arguments, **options):
    text = io.StringIO()
    show(Console(file=text, width=140), *arguments, **options)
    return text.getvalue()


def test_each_stage_has_its_row():
    text = printed(stages, [timed()])
    assert all(name in text for name, _ in STAGES)
    assert "21.00" in text
    assert printed(stages, []) == ""


def test_figures_ledger_and_events():
    figures = {
        "requests": 3, "ok": 3, "accuracy": 0.98, "rate_rps": 299.0, "p50_ms": 1.0, "p99_ms": None,
        "first_result_s": 4.0, "setup_s": 1.0,
    }  # fmt: skip
    assert "ran already" in printed(show_figures, figures, None)
    assert "started in 3.2 s" in printed(show_figures, figures, 3.21)
    ledger = fold(bytes(16), [(0, 0, 0)], [], now_ms=10, max_age_ms=1)
    assert "1 received = 0 ok + 0 error + 0 rejected + 0 expired + 0 in flight + 1 missing" in printed(
        show_ledger, ledger
    )
    event = MemoryEvent(7, bytes(32), "c", "planner", "PlanMadeEffective", "plan/digits", 1, "{}", "first", (), 0)
    line = printed(show_events, [event]).splitlines()[-2]
    assert line.split()[:5] == ["7", "00:00:00", "planner", "PlanMadeEffective", "plan/digits"]


def test_next_steps_fit_the_state(tmp_path):
    assert "isos down" in printed(next_steps, tmp_path, running=True)
    assert "KEEP=1" in printed(next_steps, tmp_path, running=False)

"""A workbench on a real stack: models served, a load measured, topics counted, the ledger asked."""

import io

from rich.console import Console

from infra.bench.models import mlps
from infra.bench.phase import Phase
from infra.bench.routed import count_routed_rows, routed_ends
from infra.bench.traffic import looked, traffic_rows
from infra.bench.workbench import Workbench


def test_a_phase_is_measured_and_counted_on_the_topics(whole_stack):
    settings = whole_stack.settings
    bench = Workbench(settings, Console(file=io.StringIO()))
    models = mlps(2)
    bench.serve(models)
    before, ends = looked(settings), routed_ends(settings.bootstrap)
    run = bench.measure(Phase("few", tuple(model.load for model in models), rate=100, seconds=2.0, warmup_s=1.0))
    assert run.summary["sent"] == run.summary["ok"] == 300
    assert [run.summary[name] for name in ("missing", "duplicated", "misplaced", "unacknowledged")] == [0, 0, 0, 0]
    assert run.of("bench-00")["ok"] + run.of("bench-01")["ok"] == 200
    assert {"broker", "edge-0", "router-0", "executor-0", "validator-0", "generator"} <= set(run.cpu())
    assert count_routed_rows(settings.bootstrap, ends) == 300
    rows = {row["topic"]: row for row in traffic_rows(before, looked(settings), 3.0)}
    assert rows["inference.requests"]["records_s"] == 100.0
    assert rows["inference.requests"]["bytes_per_record"] > 1024
    assert bench.audit().total("duplicated") == 0

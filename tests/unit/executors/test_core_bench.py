"""The executor's core is timed beside bare sessions, over batches of the size that was asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from executors.core_bench import measure_core
from executors.session import ModelSession
from infra.bench.models import bench_model
from streams.columns import Array


def test_both_sides_are_timed_over_batches_of_the_size_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [ModelSession.load(*bench_model(f"bench-{seed}", seed), "cpu") for seed in range(2)]
    sizes: list[int] = []
    run = ModelSession.run

    def watched(session: ModelSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
        sizes.append(len(inputs["x"]))
        return run(session, inputs)

    monkeypatch.setattr(ModelSession, "run", watched)
    figures = measure_core(sessions, 8, num_rounds=2, repeats=2)
    assert (figures.batch_size, figures.num_models) == (8, 2)
    assert figures.bare_us > 0.0
    assert 0.0 < figures.ratio < 2.0
    assert sizes == [8] * (2 * (2 + 1) * 2)  # two models, two rounds and a warm-up, two repeats

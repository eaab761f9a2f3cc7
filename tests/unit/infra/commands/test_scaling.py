"""`isos scaling` without a broker: what is wrong with the arguments is said before anybody is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from typer.testing import CliRunner

from infra.commands.scaling import PoolName, app, milli, policy_row, steps, table_row, too_many
from infra.settings import load_settings
from schemas.memory import MemoryEntry
from schemas.scaling import Replicas, ScalingPolicy
from streams.canonical import to_json
from tests.support.frames import MODEL, memory

POLICY = ScalingPolicy("executors", 1, 4, cost_per_replica_milli=350, budget_milli=1_500)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set",), "say what to change; `isos scaling show` shows what stands"),
        (("set", "--max-replicas", "0"), "greater than or equal to 1"),
        (("set", "--max-replicas", "65"), "less than or equal to 64"),
        (("set", "--target-utilization", "96"), "less than or equal to 95"),
        (("set", "--drain-s", "0"), "greater than or equal to 1"),
        (("set", "--budget", "-1"), "greater than or equal to 0"),
        (("set", "--min-replicas", "one"), "should be a valid integer"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [("show",), ("set", "--max-replicas", "3")])
def test_a_broker_that_is_away(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOS_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ISOS_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 6
    assert "The broker does not answer" in done.stderr


def test_a_row_says_what_stands_and_how_many_are_ready() -> None:
    bodies = {"scaling/executors": POLICY, "replicas/executors": Replicas("executors", 2, "a")}
    entries = {key: MemoryEntry(key, 1, 9, to_json(body), 5) for key, body in bodies.items()}
    row = policy_row(POLICY, replace(memory(MODEL), entries=MappingProxyType(entries)))
    assert (row["pool"], row["is_set"], row["replicas"], row["max_replicas"]) == ("executors", True, 2, 4)
    assert (row["cost_per_replica"], row["budget"]) == (0.35, 1.5)
    nothing = policy_row(ScalingPolicy("executors"), memory(MODEL))
    assert (nothing["is_set"], nothing["replicas"], nothing["budget"]) == (False, None, None)
    assert table_row(row) == {
        "pool": "executors",
        "replicas": 2,
        "min_replicas": 1,
        "max_replicas": 4,
        "rules": "target_utilization_percent 60, drain_s 5, upscale_delay_s 2, downscale_delay_s 60, cooldown_s 10, "
        "idle_s 300, cost_per_replica 0.35, budget 1.5",
    }


def test_pools_are_told_of_apart() -> None:
    slow = replace(POLICY, pool="executors-slow")
    bodies = {"scaling/executors": POLICY, "replicas/executors-slow": Replicas("executors-slow", 3, "a")}
    entries = {key: MemoryEntry(key, 1, 9, to_json(body), 5) for key, body in bodies.items()}
    row = policy_row(slow, replace(memory(MODEL), entries=MappingProxyType(entries)))
    assert (row["pool"], row["is_set"], row["replicas"]) == ("executors-slow", False, 3)
    assert too_many(slow, load_settings(max_slow_executors=4)) == ""
    assert "at most 1 slow executors: for 4, start it with --set max_slow_executors=4" in too_many(
        slow, load_settings()
    )
    assert [PoolName("slow").key, PoolName("fast").key] == ["executors-slow", "executors"]
    done = CliRunner().invoke(app, ["show", "--pool", "gpu"])
    assert done.exit_code == 2


def test_vertical_steps_are_named() -> None:
    assert (steps("batch"), steps(" none "), steps("batch, variant")) == (("batch",), (), ("batch", "variant"))
    row = policy_row(replace(POLICY, vertical=("batch",)), memory(MODEL))
    assert table_row(row)["rules"].endswith(
        "vertical batch, vertical_gain_percent 5, cost_per_replica 0.35, budget 1.5"
    )
    assert replace(POLICY, vertical=("batch", "variant")).problem == ""
    assert replace(POLICY, vertical=("gpu",)).problem.startswith("vertical steps are batch, variant, each once")
    assert replace(POLICY, vertical_gain_percent=0).problem.startswith("the least gain")


def test_money_is_kept_in_thousandths() -> None:
    assert (milli(0.35), milli(0.0), milli(None)) == (350, 0, None)


def test_more_than_the_stack_can_start_is_said() -> None:
    assert too_many(POLICY, load_settings(executors=1, max_executors=4)) == ""
    assert too_many(POLICY, load_settings(executors=2)) == (
        "The stack starts at most 2 executors: for 4, start it with --set max_executors=4 (each has a lane of its own)."
    )

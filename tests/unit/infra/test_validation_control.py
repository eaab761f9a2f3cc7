"""Golden sets and checks from the command line: what is proposed, and what is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from agents.orchestrator import COMMANDS
from infra.golden import GoldenDataError, GoldenRows, unpack
from infra.memory_control import ChangeRefusedError
from infra.validation_control import (
    OPERATOR,
    Aim,
    facts_of,
    golden_command,
    golden_of,
    requests_for,
    wanted_checks,
)
from schemas.check import GOLDEN_SET, INTEGRITY, LATENCY, SERVING, GoldenSet
from schemas.model import ModelVersion, TensorSpec
from streams.blobs.content_store import digest_of
from streams.canonical import from_json
from streams.memory_view import ActiveVersion, active_version, models
from tests.support.frames import MODEL, memory
from tests.unit.infra.test_serving_control import with_entry

VIEW = memory(MODEL)
NAME = MODEL.model
ACTIVE = with_entry(VIEW, f"active/{NAME}", ActiveVersion(NAME, MODEL.version))
FACTS = ModelVersion(
    "digits", "v1.0.0", "ab" * 32, 10,
    (TensorSpec("image", "UINT8", (4,)),), (TensorSpec("scores", "FP32", (3,)), TensorSpec("classes", "INT64", (3,))),
)  # fmt: skip
INPUTS = {"image": np.zeros((3, 4), np.uint8)}
BY_LABELS = GoldenRows(INPUTS, np.arange(3), {})
BY_OUTPUTS = GoldenRows(INPUTS, None, {"scores": np.zeros((3, 3), np.float32)})


def test_the_version_that_is_meant() -> None:
    assert active_version(ACTIVE, NAME) == MODEL.version
    assert facts_of(ACTIVE, NAME) == facts_of(ACTIVE, NAME, MODEL.version) == models(VIEW)[NAME][0]
    for model, version, code in (("nobody", "", "unknown_model"), (NAME, "v9.0.0", "unknown_version")):
        with pytest.raises(ChangeRefusedError) as refused:
            facts_of(ACTIVE, model, version)
        assert (refused.value.code, refused.value.exit_code) == (code, 3)


@pytest.mark.parametrize(
    ("rows", "aim", "kind", "output", "least"),
    [
        (BY_LABELS, Aim(), "labels", "classes", 950_000),
        (BY_LABELS, Aim(0.5, 0.0, "scores"), "labels", "scores", 500_000),
        (BY_OUTPUTS, Aim(), "outputs", "", 1_000_000),
        (BY_OUTPUTS, Aim(0.9, 1e-4), "outputs", "", 900_000),
    ],
)
def test_the_value_of_memory_and_the_bytes_it_names(
    rows: GoldenRows, aim: Aim, kind: str, output: str, least: int
) -> None:
    golden, blob = golden_of(FACTS, rows, aim)
    assert golden == GoldenSet(
        "digits", digest_of(blob), len(blob), 3, kind, output, least, aim.tolerance  # type: ignore[arg-type]
    )  # fmt: skip
    assert golden.problem == ""
    assert unpack(blob).num_rows == 3


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(GoldenDataError, match="there is no output y"):
        golden_of(FACTS, BY_LABELS, Aim(label_output="y"))


def test_the_command_is_one_that_a_person_may_send() -> None:
    golden, _ = golden_of(FACTS, BY_LABELS, Aim())
    command = golden_command(golden, VIEW, 5)
    assert (command.kind, command.key, command.expected_version) == ("SetGoldenSet", "golden/digits", 0)
    assert command.agent in COMMANDS[command.kind][0]
    assert from_json(GoldenSet, command.body) == golden
    assert command.reason == "digits is checked by 3 rows with labels, 95 % of them right"


def test_what_can_be_run_of_a_version() -> None:
    facts = models(VIEW)[NAME][0]
    assert wanted_checks(VIEW, facts) == (INTEGRITY,)
    assert wanted_checks(ACTIVE, facts) == (SERVING, LATENCY, INTEGRITY)
    golden = GoldenSet(NAME, "ab" * 32, 100, 3, "labels", "y", 950_000)
    assert wanted_checks(with_entry(VIEW, f"golden/{NAME}", golden), facts) == (GOLDEN_SET, SERVING, LATENCY, INTEGRITY)


def test_requests_have_ids_that_nobody_had_before() -> None:
    first, second = (requests_for(FACTS, (SERVING, INTEGRITY), "why", 5, 30) for _ in range(2))
    assert len({each.request_id for each in (*first, *second)}) == 4
    assert [each.request_id.rpartition("/")[2] for each in first] == [SERVING, INTEGRITY]
    assert {(each.requester, each.requested_us, each.deadline_us, each.alert_id) for each in first} == {
        (OPERATOR, 5, 30_000_005, "")
    }

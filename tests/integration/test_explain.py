"""``isos explain`` on a whole stack: an answer is traced to its plan, by id and by place, an error to its letter."""

from __future__ import annotations

import numpy as np
import pytest

from streams.client.client import Client
from tests.support.broker import unique
from tests.support.served import MODEL
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(180)


async def test_an_answer_is_traced_to_the_events_behind_it(whole_stack: RunningStack) -> None:
    name = unique("explained")
    async with Client(whole_stack.settings.bootstrap) as isos:
        answer = await isos.infer(MODEL, {"x": np.zeros((2, 256), np.float32)}, request_id=name)
    result = answer.result
    told = whole_stack.isos_json("explain", name)
    assert (told["request"]["request_id"], told["status"], told["error"]) == (name, "OK", None)
    assert (told["request"]["partition"], told["request"]["offset"]) == (result.source.partition, result.source.offset)
    served = told["served_by"]
    assert (served["model"], served["version"]) == (MODEL, "v1.0.0")
    assert served["model_digest"] == result.provenance.model_digest
    assert (served["executor"], served["batch_id"]) == (result.provenance.executor, result.provenance.batch_id)
    assert told["timing_ms"]["total"] == pytest.approx((result.timing.completed_us - result.received_us) / 1000)

    memory = told["memory"]
    assert memory["sequence"] == result.provenance.memory_sequence
    plan = memory["plan"]
    assert plan["value"]["versions"] == [{"version": "v1.0.0", "weight_percent": 100}]
    assert (plan["event"]["kind"], plan["event"]["agent"]) == ("PlanMadeEffective", "planner")
    assert plan["event"]["reason"].startswith(f"{MODEL} has ")
    assert any(cause.startswith("control.plans-0@") for cause in plan["event"]["causes"])
    assert 0 < plan["event"]["sequence"] <= memory["sequence"]
    assert memory["active_version"]["version"] == "v1.0.0"
    assert memory["active_version"]["event"]["kind"] == "VersionActivated"
    assert memory["registered"]["value"]["digest"] == served["model_digest"]
    assert (told["dead_letters"], told["notes"]) == ([], [])

    place = ("--partition", str(result.source.partition), "--offset", str(result.source.offset))
    assert whole_stack.isos_json("explain", *place) == told
    assert "plan.event.reason" in whole_stack.isos("explain", name, "--tenant", "default").stdout


async def test_an_error_is_traced_to_its_dead_letter(whole_stack: RunningStack) -> None:
    async with Client(whole_stack.settings.bootstrap) as isos:
        answer = await isos.exchange(b"garbage")
    source = answer.result.source
    told = whole_stack.isos_json("explain", "--partition", str(source.partition), "--offset", str(source.offset))
    assert (told["status"], told["error"]["code"]) == ("ERROR", "garbage")
    (letter,) = told["dead_letters"]
    assert (letter["id"], letter["code"]) == (f"inference.requests/{source.partition}/{source.offset}", "garbage")
    assert letter["stage"] == "edge"
    assert told["timing_ms"]["executor"] is None


def test_what_is_not_there_is_exit_code_3_with_what_to_try(whole_stack: RunningStack) -> None:
    for arguments in (
        ("nobody-asked-this",),
        ("--partition", "0", "--offset", "99999999"),
        ("--partition", "99", "--offset", "0"),
    ):
        done = whole_stack.isos("explain", *arguments, check=False)
        assert (done.returncode, done.stdout) == (3, "")
        assert "`isos " in done.stderr

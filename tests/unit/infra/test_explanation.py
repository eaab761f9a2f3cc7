"""The document of an answer: what memory said, who made it so, and what is out of the ordinary."""

from __future__ import annotations

import dataclasses
from typing import Any

from infra.explanation import Evidence, explained, lines, notes, timing_ms, when
from schemas.canary import Canary
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.plan import Plan, VersionWeight
from schemas.result import InferenceResult, Provenance, ResultError, Source, Timing
from schemas.review import ReviewDecision
from schemas.serving import Breaker
from streams.canonical import to_json
from streams.codec import Codec, SchemaIds
from streams.errors import PoisonRecordError
from streams.letters.letter import Letter
from streams.memory_fold import StoredEvent
from streams.memory_point import MemoryPoint
from streams.memory_view import ActiveVersion, Incident
from tests.support.control import model_version
from tests.support.samples import DIGEST, TOPIC_ID, T

CODEC = Codec(SchemaIds.local())
PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 1000, fallbacks=("v0.9.0",))
CHANGES: list[tuple[str, str, Any]] = [
    ("ModelRegistered", "model/digits/v1.0.0", model_version(digest=DIGEST)),
    ("VersionActivated", "active/digits", ActiveVersion("digits", "v1.0.0")),
    ("PlanMadeEffective", "plan/digits", PLAN),
    ("BreakerOpened", "breaker/digits/v0.9.0", Breaker("digits", "v0.9.0", "open", "9 of 10 failed", T, 5)),
    ("IncidentRaised", "incident/i1", Incident("i1", "silent", "edge-0", "critical", "edge-0 is silent", "{}")),
    ("IncidentResolved", "incident/i1", None),
]
RESULT = InferenceResult(
    *("r1", "default", T, Source(TOPIC_ID, 1, 17), "OK", None, "digits", "v1.0.0"),
    Provenance(DIGEST, 5, "main", "", 9, 16, "CPUExecutionProvider", "executor-0", False),
    *(Timing(T + 1_000, T + 3_000, T + 6_000, T + 10_000), ()),
)


DECISION = ReviewDecision("r1", "approved", "bob", "looks right", "ab" * 32, T)


def memory_at(sequence: int, changes: list[tuple[str, str, Any]] = CHANGES, command_id: str = "") -> MemoryPoint:
    point = MemoryPoint(lambda value: CODEC.decode("memory.events", value), sequence)
    last = bytes(32)
    for number, (kind, key, body) in enumerate(changes, start=1):
        causes = (RecordCoordinate("memory.commands", 0, number),)
        text = None if body is None else to_json(body)
        event = MemoryEvent(
            number, last, command_id or f"c{number}", "planner", kind, key, 1, text, f"why {number}", causes, T + number
        )
        value = CODEC.encode("memory.events", event)
        last = StoredEvent.of(event, value).value_hash
        point.record(10 + number, value)
    return point


def evidence(result: InferenceResult = RESULT, memory: MemoryPoint | None = None, **changes: Any) -> Evidence:
    made = Evidence(result, 23, T // 1000 + 11, {}, memory or memory_at(result.provenance.memory_sequence), ())
    return dataclasses.replace(made, **changes)


def with_(result: InferenceResult, **changes: Any) -> InferenceResult:
    """A result with another provenance."""
    return dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, **changes))


def test_the_plan_and_who_made_it_effective() -> None:
    document = explained(evidence())
    plan = document["memory"]["plan"]
    assert plan["value"]["versions"] == [{"version": "v1.0.0", "weight_percent": 100}]
    assert plan["event"] == {
        "kind": "PlanMadeEffective",
        "sequence": 3,
        "offset": 13,
        "time": when(T + 3),
        "agent": "planner",
        "reason": "why 3",
        "command_id": "c3",
        "causes": ["memory.commands-0@3"],
    }
    assert document["memory"]["active_version"]["version"] == "v1.0.0"
    assert document["memory"]["active_version"]["event"]["reason"] == "why 2"
    assert document["memory"]["registered"]["value"]["digest"] == DIGEST
    assert document["notes"] == []


def test_a_canary_of_then_is_shown_with_the_plan_that_splits_the_rows() -> None:
    assert explained(evidence())["memory"]["canary"] is None
    split = dataclasses.replace(PLAN, versions=(VersionWeight("v1.0.0", 80), VersionWeight("v2.0.0", 20)))
    set_to = Canary("digits", "v2.0.0", 20)
    point = memory_at(5, [*CHANGES[:3], ("CanarySet", "canary/digits", set_to), ("Planned", "plan/digits", split)])
    document = explained(evidence(memory=point))
    assert document["memory"]["canary"]["value"]["weight_percent"] == 20
    assert document["memory"]["canary"]["event"]["kind"] == "CanarySet"
    assert [each["weight_percent"] for each in document["memory"]["plan"]["value"]["versions"]] == [80, 20]


def test_the_request_the_result_and_what_served_it() -> None:
    document = explained(evidence())
    assert (document["request"]["partition"], document["request"]["offset"]) == (1, 17)
    assert document["request"]["topic_id"] == TOPIC_ID.hex()
    assert (document["result"]["offset"], document["result"]["reaped"]) == (23, False)
    assert document["served_by"]["executor"] == "executor-0"
    assert document["served_by"]["model_digest"] == DIGEST
    assert (document["status"], document["error"], document["dead_letters"]) == ("OK", None, [])
    assert document["timing_ms"] == {"edge": 1.0, "router": 2.0, "executor": 3.0, "validator": 4.0, "total": 10.0}


def test_breakers_and_incidents_are_those_of_the_sequence() -> None:
    memory = explained(evidence())["memory"]
    (breaker,) = memory["breakers"]
    assert (breaker["version"], breaker["state"], breaker["event"]["sequence"]) == ("v0.9.0", "open", 4)
    assert [each["incident_id"] for each in memory["incidents"]] == ["i1"]
    assert explained(evidence(with_(RESULT, memory_sequence=6)))["memory"]["incidents"] == []
    before = explained(evidence(with_(RESULT, memory_sequence=3)))["memory"]
    assert (before["breakers"], before["incidents"]) == ([], [])


def test_the_approval_by_which_a_version_serves() -> None:
    changes = [("DecisionNoted", "decision/r1", DECISION), *CHANGES[:2]]
    (approval,) = explained(evidence(with_(RESULT, memory_sequence=3), memory_at(3, changes, "one")))["memory"][
        "approvals"
    ]
    said = {name: approval[name] for name in ("review_id", "decision", "decided_by", "reason")}
    assert said == {"review_id": "r1", "decision": "approved", "decided_by": "bob", "reason": "looks right"}
    assert approval["event"]["kind"] == "DecisionNoted"
    other = explained(evidence(with_(RESULT, memory_sequence=3), memory_at(3, changes)))
    assert other["memory"]["approvals"] == []


def test_stages_that_were_not_reached_take_no_time() -> None:
    assert timing_ms(T, Timing(T + 1_000, 0, 0, T + 5_000)) == {
        "edge": 1.0,
        "router": None,
        "executor": None,
        "validator": 4.0,
        "total": 5.0,
    }
    assert timing_ms(T, Timing(0, 0, 0, 0)) == dict.fromkeys(("edge", "router", "executor", "validator", "total"))


def test_the_first_batch_is_a_batch_and_none_is_none() -> None:
    served = explained(evidence(with_(RESULT, batch_id=0)))["served_by"]
    assert (served["batch_id"], served["batch_size"]) == (0, 16)
    served = explained(evidence(with_(RESULT, executor="", batch_id=0, batch_size=0)))["served_by"]
    assert (served["executor"], served["batch_id"], served["batch_size"]) == (None, None, None)


def test_errors_and_letters() -> None:
    poison = PoisonRecordError("garbage", "no Avro")
    letter = Letter.bare(RecordCoordinate("isos.inference.requests.v1", 1, 17), None, poison)
    failed = dataclasses.replace(RESULT, status="ERROR", error=ResultError("garbage", "no Avro"))
    document = explained(evidence(failed, letters=[letter]))
    assert document["error"]["code"] == "garbage"
    assert document["error"]["meaning"]
    assert document["dead_letters"] == [
        {"id": "inference.requests/1/17", "code": "garbage", "stage": "", "message": "no Avro"}
    ]


def test_what_is_out_of_the_ordinary_is_said() -> None:
    (said,) = notes(evidence(with_(RESULT, cached=True)))
    assert "an earlier request's" in said
    (said,) = notes(evidence(with_(RESULT, model_digest="cd" * 32)))
    assert said == f"The digest is not the registered one, which is {DIGEST}."
    for version, role in (("v0.9.0", "a fallback of the plan"), ("v0.1.0", "asked for by name")):
        (said,) = notes(evidence(dataclasses.replace(RESULT, model_version=version)))
        assert said == f"The plan is v1.0.0; {version} served as {role}."
    (said,) = notes(evidence(headers={"isos-reaped": b"1"}))
    assert said.startswith("The reaper")


def test_without_memory_there_is_no_plan_to_show() -> None:
    refused = with_(RESULT, memory_sequence=0)
    document = explained(Evidence(refused, 23, 1, {}, None, ()))
    assert document["memory"] == {"sequence": 0}
    assert "ended before it was routed" in document["notes"][0]
    late = with_(RESULT, memory_sequence=9)
    document = explained(evidence(late))
    assert document["memory"] == {"sequence": 9}
    assert "ends before sequence 9" in document["notes"][0]


def test_lines_of_a_table() -> None:
    document = {"a": {"b": 1, "c": None, "d": False}, "e": [{"f": "x"}, {"f": "y"}], "g": [], "h": ["i", "j"]}
    assert [(each["field"], each["value"]) for each in lines(document)] == [
        ("a.b", "1"),
        ("a.d", "false"),
        ("e[0].f", "x"),
        ("e[1].f", "y"),
        ("h", '["i", "j"]'),
    ]


def test_times() -> None:
    assert when(0) is None
    assert when(1_500_000) == "1970-01-01T00:00:01.500000Z"

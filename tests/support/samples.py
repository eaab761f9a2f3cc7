"""One full record of every type that stands on a topic, and random ones: golden files and round trips use them."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from hypothesis import strategies as st

from schemas.audit import AuditEntry, AuditHead, AuditMetric, AuditRecord
from schemas.check import CheckRequest, Observation
from schemas.coordinate import RecordCoordinate
from schemas.decision import RoutedRows, RoutingDecision
from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from schemas.journal import JournalEffect, JournalEntry
from schemas.ledger import LedgerCheckpoint
from schemas.load import ExecutorLoad, VersionLoad
from schemas.memory import MemoryCommand, MemoryEntry, MemoryEvent
from schemas.plan import Capacity, Plan, PlanProposal, VersionWeight
from schemas.request import BlobRef, InferenceRequest, Tensor
from schemas.result import InferenceResult, Provenance, ResultError, Source, Timing
from schemas.review import ContextSignal, Escalation, ReviewDecision, ReviewRequest, ReviewVote, Validation
from schemas.scaling import ScaleAction, ScaleConfirmation
from schemas.serving import Slo
from schemas.shadow import Shadow, ShadowComparison
from schemas.statistics import MeasureCounts, VersionStatistics
from schemas.telemetry import Alert, CacheWindow, Heartbeat, LoadedModel, ModelWindow, RouterLoad, Telemetry

TOPIC_ID = bytes(range(16))
T = 1_700_000_000_000_000
DIGEST = "ab" * 32
AUDIT = AuditRecord(
    *("op1", "after", T, "alice", "CHG-12", "production", "models.activate", "digits", "v1.1.0", "v1.0.0"),
    *("all_at_once", ("replicas=2",), "isos models activate digits v1.1.0", "refused", ("active/digits",), True, 0.5),
    *((AuditMetric("wait_ms", 12.5),), "stale: it changed", "ml-serving", "ml-engineering", "cli", "c1", 3),
)
CAUSES = (RecordCoordinate("control.plans", 0, 7), RecordCoordinate("memory.commands", 0, 12))
TENSOR = Tensor("x", "FP32", (1, 2), b"\x00\x00\x80?\x00\x00\x00@")
BLOCK = TensorBlock("x", "FP32", (2,), b"\x00\x00\x80?\x00\x00\x00@")
SEGMENT = Segment(
    *("digits", "v1.0.0", "main", 1, (BLOCK,), (BLOCK,), DIGEST, "CPUExecutionProvider", "e-0", 9, 1, 40, 200),
    *(BlobRef(DIGEST, 8), True),
)
FRAME = InferenceFrame(
    *(77, T, TOPIC_ID, 1, 5, T + 1, T + 2, T + 3, (SEGMENT,), ("default",), (RowError(0, "internal", "a defect", 9),)),
    *(bytes(8), bytes(4), bytes(8), bytes(8), b"\x05", b"\x01", b"\x00", b"\x01\x00", b"\x00\x00"),
    *(b"\x02", b"r1", b"\x01\x00", b"k", bytes(range(16)), 1, T + 4),
)
RESULT = InferenceResult(
    *("r1", "default", T, Source(TOPIC_ID, 1, 123456), "REJECTED", ResultError("quota_exceeded", "too many", 250)),
    *("digits", "v1.0.0", Provenance(DIGEST, 5, "main", "exp", 9, 16, "CPUExecutionProvider", "e-0", True)),
    *(Timing(T + 1, T + 2, T + 3, T + 4), (TENSOR,)),
)
PLAN = Plan(
    *("digits", (VersionWeight("v1.0.0", 90), VersionWeight("v1.1.0", 10)), 128, 30_000, 1, ("v0.9.0",), 3, True),
    *(Slo(250, 10_000, 1_000), Capacity(3, "CPUExecutionProvider", 4_096, 1234.5, 2000.25, 900)),
    shadow=Shadow("v1.2.0", 25),
)
CHECK_REQUEST = CheckRequest(
    "al1/golden_set", "golden_set", "digits", "v1.0.0", "drift", "al1", "validations", T, T + 9, CAUSES
)
WINDOW = ModelWindow("digits", "v1.0.0", 10, 6, 2, 1, 1, 5_000, 900, (0, 4, 0, 2))

SAMPLES: dict[str, Any] = {
    type(record).__name__: record
    for record in (
        InferenceRequest("r1", "digits", (TENSOR,), "t", "v1.0.0", 0, 500, "k", BlobRef(DIGEST, 1 << 40)),
        FRAME,
        RESULT,
        RoutingDecision(
            1,
            2,
            77,
            T,
            9,
            3,
            1,
            2_000_000,
            (RoutedRows("inference.routed", 1, "digits", "v1.0.0", 4),),
            b"\x05" * 32,
            b"f",
        ),
        ShadowComparison(
            *("digits", "v1.1.0", "v1.0.0", TOPIC_ID, 1, T, 3, bytes(8), b"\x02", b"r1", b"\x01", b"\x01"),
            *(b"\x09\x00\x00\x00", b"\x07\x00\x00\x00", b"\x05\x00\x00\x00", b"\x04\x00\x00\x00"),
            *(b"\x06" * 16, b"\x07" * 16, b"\x02"),
        ),
        LedgerCheckpoint(TOPIC_ID, 1, 1 << 40, b"\xfe\x01", 99, 3, T),
        PlanProposal("p1", PLAN, -1, "a new version", CAUSES, T),
        RouterLoad("digits", 1234.5, 3, T, 2, 2469.0, 0.5, "edge"),
        ExecutorLoad(
            "executor-0", T + 3, T, 2, (VersionLoad("digits", "v1.0.0", 80.5, 2.25, 64, True, 9.5, 17, 2, (0, 4, 7)),)
        ),
        VersionStatistics(
            *("executor-0", "digits", "v1.0.0", DIGEST[:16], T, 5_000_000, 900, 300),
            (MeasureCounts((0, 290, 7), 3, 1, 2, -4_250), MeasureCounts((300,), 0, 0, 0, 0)),
        ),
        ScaleAction("a1", "default", "hold", 1, 2, "load is low", T),
        ScaleConfirmation("a1", "default", 2, "failed", T, "executor-2 does not start", ("executor-2",)),
        Heartbeat(
            "executor",
            1,
            4242,
            T,
            T + 5,
            17,
            (LoadedModel("digits", "v1.0.0", DIGEST, "CPU", 80.5, 2.25),),
            "auto",
            "CPU",
            0.75,
            0.5,
            0.125,
        ),
        Telemetry("router", 0, T, 1_000_000, 80, 4, (WINDOW,), (CacheWindow("digits", "v1.0.0", 7, 3),), 1, 2),
        Alert(
            *("al1", "silent", "edge-0", "critical", "edge-0 is silent", '{"age_s":5}', True, T, CAUSES),
            *("digits", "v1.0.0"),
        ),
        Validation(
            *("v1", "golden_set", "digits", "v1.0.0", True, "all right", T, "passed", 540, '{"num_right":540}', "al1"),
            CAUSES,
        ),
        CHECK_REQUEST,
        Observation(CHECK_REQUEST, True, "", 540, '{"num_right":540}', T + 1, T + 2),
        ContextSignal("c1", "max_batch", "digits", '{"max":64}', "rules.yaml", T),
        ReviewRequest("rv1", "planner", "deploy digits v1.1.0", DIGEST, "accuracy 0.97", T + 9, T, "development"),
        ReviewVote("rv1", "approved", "a person", "looks right", DIGEST, T, "cd" * 64),
        ReviewDecision("rv1", "approved", "a person", "looks right", DIGEST, T, "cd" * 64, T + 1),
        Escalation("e1", "monitor", "edge-0", "silent for 60 s", T, CAUSES),
        JournalEntry(
            "planner",
            9,
            T,
            "record",
            "memory.events",
            0,
            11,
            b"key",
            b"value",
            "orchestrator/3/0",
            (JournalEffect("control.plans", -1, b"digits", None), JournalEffect("control.plans", 0, b"d", b"v")),
            b"\x01" * 32,
        ),
        MemoryCommand(
            *("m1", "planner", "SetPlan", "plans/digits", -1, '{"x":1}', "a new version", CAUSES, T, "ann", "cd" * 64)
        ),
        MemoryEvent(3, b"\x02" * 32, "m1", "orchestrator", "PlanSet", "plans/digits", 2, None, "removed", CAUSES, T),
        MemoryEntry("plans/digits", 2, 3, '{"x":1}', T),
        AUDIT,
        AuditEntry(
            *(4, b"\x03" * 32, T, T + 1, "intake", 7, 8, 9, AUDIT),
            AuditHead("orchestrator", "ab" * 8, T, 3, b"\x03" * 32, 5, b"\x04" * 32, "cd" * 64),
        ),
    )
}

_TEXT = st.text(max_size=12)


def _value(name: str, hint: Any) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.none() | _value(name, next(arg for arg in args if arg is not types.NoneType))
    if origin is tuple:
        return st.lists(_value(name, args[0]), max_size=3).map(tuple)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if dataclasses.is_dataclass(hint):
        return records(hint)
    if hint is bytes and name == "topic_id":
        return st.binary(min_size=16, max_size=16)
    return {
        bool: st.booleans(),
        int: st.integers(-(2**31), 2**31 - 1),
        float: st.floats(allow_nan=False),
        str: _TEXT,
        bytes: st.binary(max_size=20),
    }[hint]


def records(cls: type) -> st.SearchStrategy[Any]:
    """Strategy for random records of a type, nested ones included."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{f.name: _value(f.name, hints[f.name]) for f in dataclasses.fields(cls)})

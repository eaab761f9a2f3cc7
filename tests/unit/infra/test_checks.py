"""How checks are measured, with a client and a log that are made up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pytest

import infra.checks
from executors.model_store import ModelStore
from infra.checks import IN_FLIGHT, ITEMS, PROBES, Checks, NotRunError, paced, stored_digest
from infra.golden import GoldenRows, pack
from infra.log_reader import TypedRecord
from schemas.check import DRIFT, GOLDEN_SET, INTEGRITY, LATENCY, SERVING, STATISTICS, CheckRequest, GoldenSet
from schemas.figures import AnswerFigures, GoldenFigures, HeldArtefact, IntegrityFigures, StatisticsFigures
from schemas.memory import MemoryEntry
from schemas.model import ModelVersion, TensorSpec
from schemas.request import InferenceRequest
from schemas.result import ResultError
from schemas.telemetry import Heartbeat, LoadedModel, ModelWindow, Telemetry
from streams.blobs.content_store import digest_of
from streams.canonical import to_json
from streams.check_id import TENANT, is_check
from streams.client.answer import Answer
from streams.client.client import Request
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.memory_view import ActiveVersion, MemoryView
from streams.partition_log import LogRecord
from streams.tensors import to_tensor
from streams.watch import WatchTimeoutError
from tests.support.samples import RESULT

CODEC = Codec(SchemaIds.local())
KEY = b"k" * 32
MODEL = b"the model"
FACTS = ModelVersion(
    "digits", "v1.0.0", digest_of(MODEL), len(MODEL),
    (TensorSpec("image", "UINT8", (4,)),), (TensorSpec("classes", "INT64", (1,)),),
)  # fmt: skip
NUM_ROWS = 60
ROWS = GoldenRows({"image": np.arange(NUM_ROWS * 4, dtype=np.uint8).reshape(-1, 4)}, np.arange(NUM_ROWS) % 10, {})
BLOB = pack(ROWS)
GOLDEN = GoldenSet("digits", digest_of(BLOB), len(BLOB), NUM_ROWS, "labels", "classes", 950_000)


def view_of(**bodies: object) -> MemoryView:
    named = {key.replace("__", "/"): to_json(body) for key, body in bodies.items()}
    entries = {"model/digits/v1.0.0": to_json(FACTS), **named}
    made = {key: MemoryEntry(key, 1, at, body, 1) for at, (key, body) in enumerate(entries.items(), start=1)}
    return MemoryView(len(made), entries=MappingProxyType(made))


def checks(folder: Path, *, golden: bool = True, **bodies: object) -> Checks:
    store = ModelStore(folder)
    store.put(MODEL)
    store.put(BLOB)
    view = view_of(**({"golden__digits": GOLDEN} if golden else {}), **bodies)
    return Checks(Connection("127.0.0.1:1"), folder, view, CODEC, asyncio.Lock(), KEY)


def request(check: str, version: str = "v1.0.0") -> CheckRequest:
    now_us = time.time_ns() // 1000
    return CheckRequest(f"o/{check}", check, "digits", version, "", "", "operator", now_us, now_us + 30_000_000)


def measure(made: Checks, check: str, seconds: float = 5.0, version: str = "v1.0.0") -> tuple[int, Any]:
    return asyncio.run(made.measure(request(check, version), time.monotonic() + seconds))


class AnsweringClient:
    """Answers every row with its label, but as ``wrong`` says of the request's number."""

    asked: ClassVar[list[Request]] = []
    opened: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **given: Any) -> None:
        self.opened.append(given)

    async def __aenter__(self) -> AnsweringClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    @staticmethod
    def wrong(number: int, result: Any) -> Any:
        del number
        return result

    async def stream(self, requests: AsyncIterator[Request], **given: Any) -> AsyncIterator[Any]:
        assert given["ordered"] is given["return_exceptions"] is True
        number = 0
        async for each in requests:
            self.asked.append(each)
            labels = each.inputs["image"][:, 0].astype(np.int64) // 4 % 10  # the first pixel says which row it was
            result = replace(RESULT, status="OK", error=None, model_version=each.version or "")
            answer = Answer({"classes": labels[:, None]}, result, 0)
            yield self.wrong(number, answer)
            number += 1


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[AnsweringClient]:
    class Fresh(AnsweringClient):
        asked: ClassVar[list[Request]] = []
        opened: ClassVar[list[dict[str, Any]]] = []

    monkeypatch.setattr(infra.checks, "Client", Fresh)
    monkeypatch.setattr(infra.checks, "ROWS_PER_S", 1e6)
    return Fresh


def failed(number: int, answer: Answer) -> Answer:
    """The second request failed, the third was refused."""
    if number not in (1, 2):
        return answer
    if number == 1:
        return Answer({}, replace(answer.result, status="ERROR", error=ResultError("internal", "", 0)), 0)
    return Answer({}, replace(answer.result, status="REJECTED", error=ResultError("overloaded", "", 0)), 0)


def test_golden_rows_go_out_in_few_requests_behind_everybodys(tmp_path: Path, client: type[AnsweringClient]) -> None:
    num, figures = measure(checks(tmp_path), GOLDEN_SET)
    assert (num, figures) == (NUM_ROWS, GoldenFigures(GOLDEN.digest, NUM_ROWS, NUM_ROWS, NUM_ROWS))
    assert [len(each.inputs["image"]) for each in client.asked] == [ITEMS] * 3 + [NUM_ROWS - 3 * ITEMS]
    assert {(each.model, each.version, each.priority) for each in client.asked} == {("digits", "v1.0.0", 9)}
    (given,) = client.opened
    assert (given["tenant"], given["max_in_flight"]) == (TENANT, IN_FLIGHT)
    for each in client.asked:
        tensors = tuple(to_tensor(name, array) for name, array in each.inputs.items())
        assert is_check(KEY, InferenceRequest(each.request_id or "", each.model, tensors, version=each.version))
    assert len({each.request_id for each in client.asked}) == len(client.asked)


def test_rows_that_failed_are_wrong_and_those_refused_are_not_answered(
    tmp_path: Path, client: type[AnsweringClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "wrong", staticmethod(failed))
    _, figures = measure(checks(tmp_path), GOLDEN_SET)
    answered = NUM_ROWS - ITEMS
    assert figures == GoldenFigures(GOLDEN.digest, NUM_ROWS, answered, answered - ITEMS, "internal")


@pytest.mark.parametrize("check", [SERVING, LATENCY])
def test_serving_is_asked_as_clients_ask(tmp_path: Path, client: type[AnsweringClient], check: str) -> None:
    num, figures = measure(checks(tmp_path), check)
    assert (num, figures.source, figures.num_ok) == (PROBES, "requests", PROBES)
    assert {(len(each.inputs["image"]), each.priority) for each in client.asked} == {(1, 5)}


class Log:
    """A watch that hands over what comes ``later``, once; a reader of what stands in ``records``."""

    records: ClassVar[dict[str, list[Any]]] = {}
    later: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self, connection: Any, topic: str, on_batch: Callable[[Sequence[LogRecord]], None], **given: Any):
        assert given == {"from_end": True}
        short = topic.removeprefix("isos.").removesuffix(".v1")
        values = [CODEC.encode(short, record) for record in self.later.get(short, [])]
        self._batch = [LogRecord(at, b"", value) for at, value in enumerate((b"garbage", *values))]
        self._on_batch = on_batch

    async def start(self, timeout_s: float) -> None:
        del timeout_s

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        self._on_batch(self._batch)
        if not condition():
            raise WatchTimeoutError(what, timeout_s)

    async def stop(self) -> None:
        pass


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> type[Log]:
    class Fresh(Log):
        records: ClassVar[dict[str, list[Any]]] = {}
        later: ClassVar[dict[str, list[Any]]] = {}

    class Reader:
        def __init__(self, *given: Any) -> None:
            assert len(given) == 2

        async def read(self, topic: str, last: int) -> list[TypedRecord]:
            assert last > 0
            return [TypedRecord(at, 0, record) for at, record in enumerate(Fresh.records.get(topic, []))]

    monkeypatch.setattr(infra.checks, "PartitionWatch", Fresh)
    monkeypatch.setattr(infra.checks, "LogReader", Reader)
    return Fresh


@pytest.mark.parametrize("num_ok", [50, 3])
def test_serving_without_a_golden_set_is_everybodys_traffic(tmp_path: Path, log: type[Log], num_ok: int) -> None:
    part = ModelWindow("digits", "v1.0.0", num_ok, num_ok, 0, 0, 0, 1, 1, (num_ok,))
    soon_us = time.time_ns() // 1000 + 60_000_000
    log.later["control.telemetry"] = [Telemetry("validator", 0, soon_us, 1, 1, 0, (part,))]
    figures = AnswerFigures("traffic", num_ok, num_ok, 0, 0, 0, 0, (num_ok,))
    assert measure(checks(tmp_path, golden=False), SERVING) == (num_ok, figures)


def beat(instance: int, digest: str, role: str = "executor", age_s: int = 0) -> Heartbeat:
    sent_us = time.time_ns() // 1000 - age_s * 1_000_000
    return Heartbeat(role, instance, 1, 1, sent_us, 1, (LoadedModel("digits", "v1.0.0", digest, "CPU", 1.0, 1.0),))


def test_integrity_is_what_is_stored_and_what_executors_hold(tmp_path: Path, log: type[Log]) -> None:
    log.records["control.heartbeats"] = [
        beat(1, FACTS.digest), beat(0, "cd" * 32), beat(5, "ee" * 32, "edge"), beat(7, "ee" * 32, age_s=9),
    ]  # fmt: skip
    num, figures = measure(checks(tmp_path), INTEGRITY)
    held = (HeldArtefact("executor-0", "cd" * 32), HeldArtefact("executor-1", FACTS.digest))
    assert (num, figures) == (2, IntegrityFigures(FACTS.digest, held))


@pytest.mark.parametrize("active", [True, False])
def test_an_active_version_that_nobody_holds_yet_is_waited_for(tmp_path: Path, log: type[Log], active: bool) -> None:
    log.later["control.heartbeats"] = [beat(0, FACTS.digest)]
    made = checks(tmp_path, active__digits=ActiveVersion("digits", "v1.0.0" if active else "v2.0.0"))
    assert measure(made, INTEGRITY)[0] == int(active)


def test_a_flipped_byte_and_a_missing_file_are_seen(tmp_path: Path, log: type[Log]) -> None:
    made = checks(tmp_path)
    path = ModelStore(tmp_path).path(FACTS.digest)
    path.chmod(0o600)
    path.write_bytes(b"tHe model")
    assert measure(made, INTEGRITY) == (0, IntegrityFigures(digest_of(b"tHe model"), ()))
    path.unlink()
    assert measure(made, INTEGRITY) == (0, IntegrityFigures("", ()))
    assert stored_digest(tmp_path, "no digest") == ""


@pytest.mark.parametrize(
    ("golden", "check", "version", "said"),
    [
        (True, GOLDEN_SET, "v9.0.0", "digits has no version v9.0.0."),
        (False, GOLDEN_SET, "v1.0.0", "digits has no golden set; `isos models golden --help` says how it gets one."),
        (True, "magic", "v1.0.0", "There is no check magic."),
        (True, DRIFT, "v1.0.0", "digits v1.0.0 has no reference."),
    ],
)
def test_what_cannot_be_run_says_why(tmp_path: Path, golden: bool, check: str, version: str, said: str) -> None:
    with pytest.raises(NotRunError) as caught:
        measure(checks(tmp_path, golden=golden), check, version=version)
    assert str(caught.value) == said


def test_a_golden_set_that_is_gone_or_damaged_is_not_run(tmp_path: Path) -> None:
    made = checks(tmp_path)
    path = ModelStore(tmp_path).path(GOLDEN.digest)
    path.chmod(0o600)
    path.write_bytes(b"other")
    with pytest.raises(NotRunError, match="The golden set cannot be read: .* holds other bytes"):
        measure(made, GOLDEN_SET)
    path.unlink()
    with pytest.raises(NotRunError, match="The golden set cannot be read: no model blob"):
        measure(made, GOLDEN_SET)


def test_statistics_are_the_last_minutes_of_the_model(tmp_path: Path, log: type[Log]) -> None:
    now_us = time.time_ns() // 1000
    part = ModelWindow("digits", "v1.0.0", 20, 15, 1, 4, 0, 1, 1)
    refused = ModelWindow("digits", "", 3, 0, 0, 3, 0, 1, 1)
    other = ModelWindow("others", "v1.0.0", 9, 0, 0, 9, 0, 1, 1)
    log.records["control.telemetry"] = [
        Telemetry("validator", 0, now_us, 1, 1, 0, (part, refused, other)),
        Telemetry("validator", 1, now_us, 1, 1, 0, (part,)),
        Telemetry("edge", 0, now_us, 1, 1, 0, (part,)),
        Telemetry("validator", 0, now_us - 90_000_000, 1, 1, 0, (part,)),
    ]
    assert measure(checks(tmp_path), STATISTICS) == (43, StatisticsFigures(43, 11))


def test_requests_keep_their_distance() -> None:
    requests = [Request("digits", {}) for _ in range(5)]

    async def run() -> float:
        began = time.monotonic()
        assert [each async for each in paced(requests, 0.01)] == requests
        return time.monotonic() - began

    assert asyncio.run(run()) >= 0.04

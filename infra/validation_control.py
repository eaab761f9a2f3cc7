"""Golden sets and checks from the command line: a set is noted in memory, a check is asked for and waited for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.errors import KafkaError

from executors.model_store import ModelStore
from infra.golden import GoldenRows, label_output, pack
from infra.memory_command import command_of
from infra.memory_control import ChangeRefusedError, MemoryControl, require_model
from schemas.check import GOLDEN_SET, INTEGRITY, LATENCY, SERVING, CheckRequest, GoldenSet
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.review import Validation
from streams.blobs.content_store import digest_of
from streams.canonical import to_json
from streams.connection import UnreachableError, bounded, producer, start, stop_quietly
from streams.errors import PoisonRecordError
from streams.memory_view import MemoryView, active_version, golden_set, model_version
from streams.partition_log import LogRecord
from streams.topics import full_name
from streams.watch import PartitionWatch

REQUESTS: Final = "control.validation-requests"
VALIDATIONS: Final = "control.validations"
OPERATOR: Final = "operator"
LATE_S: Final = 10.0
"""How long after a check's deadline its outcome is waited for: the agent gives it up five seconds after."""
SEND_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Aim:
    """What right means. ``min_accuracy`` None: 0.95 for labels, 1 for outputs. ``label_output`` "": found out."""

    min_accuracy: float | None = None
    tolerance: float = 0.0
    label_output: str = ""


def facts_of(view: MemoryView, model: str, version: str = "") -> ModelVersion:
    """A version of a model, the active one by default. Raises ChangeRefusedError where there is none."""
    require_model(view, model)
    wanted = version or active_version(view, model) or ""
    facts = model_version(view, model, wanted)
    if facts is None:
        remedy = f"`isos models show {model}` lists them."
        raise ChangeRefusedError("unknown_version", f"{model} has no version {wanted}", remedy)
    return facts


def golden_of(facts: ModelVersion, rows: GoldenRows, aim: Aim) -> tuple[GoldenSet, bytes]:
    """The value of memory for rows, and the bytes that it names. Raises GoldenDataError."""
    blob = pack(rows)
    by_labels = rows.labels is not None
    least = aim.min_accuracy if aim.min_accuracy is not None else (0.95 if by_labels else 1.0)
    output = label_output(facts.outputs, aim.label_output) if by_labels else ""
    shape = digest_of(blob), len(blob), rows.num_rows
    kind: Any = "labels" if by_labels else "outputs"
    return GoldenSet(facts.model, *shape, kind, output, round(least * 1e6), aim.tolerance), blob


def golden_command(golden: GoldenSet, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal of a golden set."""
    what = "labels" if golden.kind == "labels" else "outputs"
    reason = (
        f"{golden.model} is checked by {golden.num_rows} rows with {what}, "
        f"{golden.min_accuracy_ppm / 1e4:g} % of them right"
    )
    return command_of("SetGoldenSet", f"golden/{golden.model}", to_json(golden), reason, view, now_us)


def wanted_checks(view: MemoryView, facts: ModelVersion) -> tuple[str, ...]:
    """The checks that can be run of a version: by its golden set, else by traffic, which the active one gets."""
    if golden_set(view, facts.model) is not None:
        return GOLDEN_SET, SERVING, LATENCY, INTEGRITY
    is_active = active_version(view, facts.model) == facts.version
    return (SERVING, LATENCY, INTEGRITY) if is_active else (INTEGRITY,)


def requests_for(facts: ModelVersion, checks: Sequence[str], reason: str, now_us: int, seconds: float) -> list[Any]:
    """Requests of an operator, under ids that nobody had before."""
    run = f"{OPERATOR}/{secrets.token_hex(6)}"
    times = now_us, now_us + int(seconds * 1e6)
    return [
        CheckRequest(f"{run}/{check}", check, facts.model, facts.version, reason, "", OPERATOR, *times)
        for check in checks
    ]


class ValidationControl(MemoryControl):
    """An open connection to memory, by which golden sets are noted and checks are run. Use ``async with``."""

    async def set_golden(self, golden: GoldenSet, blob: bytes, store: ModelStore) -> None:
        """Store the rows, have the set noted, and wait until it stands; what stands already is a success.

        Raises ChangeRefusedError, StoreUnwritableError, and WatchTimeoutError when nobody answers in time.
        """
        store.put(blob)
        model = golden.model
        if golden_set(self.view, model) != golden:
            command = golden_command(golden, self.view, time.time_ns() // 1000)
            remedy = f"`isos models golden {model}` shows what stands."
            await self.propose(command, lambda view: golden_set(view, model) == golden, remedy)

    async def run(self, requests: Sequence[CheckRequest], seconds: float) -> list[Validation]:
        """Ask for checks and wait for their outcomes, in the order of the requests. Raises WatchTimeoutError."""
        found: dict[str, Validation] = {}

        def hand_over(batch: Sequence[LogRecord]) -> None:
            for record in batch:
                try:
                    validation: Validation = self._codec.decode(VALIDATIONS, record.value)
                except PoisonRecordError:
                    continue
                found[validation.validation_id] = validation

        ids = [request.request_id for request in requests]
        watch = PartitionWatch(self._connection, full_name(VALIDATIONS), hand_over, from_end=True)
        try:
            await watch.start(self._timeout_s)
            await self._send(requests)
            what = "The outcome of the checks"
            await watch.wait_for(lambda: all(each in found for each in ids), seconds + LATE_S, what)
        finally:
            await watch.stop()
        return [found[each] for each in ids]

    async def _send(self, requests: Sequence[CheckRequest]) -> None:
        client = producer(self._connection, enable_idempotence=True)
        try:
            await start(client, "connecting to ask for checks")
            for request in requests:
                value = self._codec.encode(REQUESTS, request)
                sent = client.send_and_wait(full_name(REQUESTS), value, key=request.model.encode())
                await bounded(sent, SEND_S, "asking for a check")
        except KafkaError as error:
            raise UnreachableError("asking for a check", type(error).__name__) from error
        finally:
            await stop_quietly(client)

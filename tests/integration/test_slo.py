"""SLOs through a whole stack: a promise that cannot be kept is an alert with its evidence until it is loosened.

The Monitor is killed while the alert stands: it neither forgets it nor raises it twice.
"""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.log_reader import LogReader
from infra.registration import Registrar
from schemas.telemetry import Alert
from streams.client.client import Client
from streams.client.request import Request
from streams.connection import Connection
from tests.support import models
from tests.support.broker import unique
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

PATIENCE_S = 90.0


async def registered(stack: RunningStack, blob: bytes) -> str:
    """A new model with this one version."""
    name = unique("promising")
    store = ModelStore(stack.settings.data_dir)
    async with Registrar(Connection(stack.settings.bootstrap), store, PATIENCE_S) as registrar:
        await registrar.register(blob, models.version_of(blob, name=name))
    return name


async def ask(client: Client, model: str, value: float, count: int = 20) -> set[str]:
    """The statuses of so many requests at once."""
    given = {"x": np.full((1, 4), value, np.float32)}
    answers = await asyncio.gather(*(client.submit(Request(model, given)) for _ in range(count)))
    return {answer.result.status for answer in answers}


async def alerts(stack: RunningStack, model: str) -> list[Alert]:
    """What stands in ``control.alerts`` of the model's SLO, each once: after a kill the last effects are sent again."""
    reader = await LogReader.connect(Connection(stack.settings.bootstrap))
    found = dict.fromkeys(each.record for each in await reader.read("control.alerts"))
    return [each for each in found if each.kind == "slo_burn" and each.subject == model]


async def asked_until_alerted(
    stack: RunningStack, client: Client, model: str, value: float, objective: str, status: str
) -> Alert:
    """Ask on until the fast alert of the objective is there."""
    end = time.monotonic() + PATIENCE_S
    while True:
        assert await ask(client, model, value) == {status}
        for alert in await alerts(stack, model):
            if alert.alert_id.startswith(f"slo_burn/{model}/{objective}/fast/"):
                return alert
        assert time.monotonic() < end, f"nobody complains of {model}"


async def resolved(stack: RunningStack, model: str) -> list[Alert]:
    """The alerts of the model, once each that was raised is resolved."""
    end = time.monotonic() + PATIENCE_S
    while True:
        found = await alerts(stack, model)
        if {each.alert_id for each in found if each.resolved} == {each.alert_id for each in found}:
            return found
        assert time.monotonic() < end, f"an alert of {model} still stands: {found}"
        await asyncio.sleep(0.2)


async def test_an_impossible_latency_is_alerted_with_evidence_until_the_slo_is_loosened(
    whole_stack: RunningStack,
) -> None:
    isos = whole_stack.isos_json
    model = await registered(whole_stack, models.identity())
    shown = await asyncio.to_thread(isos, "serving", "set", model, "--slo-ms", "1")
    assert shown["slo"] == {"latency_ms": 1, "share": 0.99, "error_share": None}
    async with Client(whole_stack.settings.bootstrap) as client:
        raised = await asked_until_alerted(whole_stack, client, model, 1.0, "latency", "OK")
        evidence = json.loads(raised.evidence)
        assert (raised.severity, raised.resolved, evidence["slo"]["latency_ms"]) == ("critical", False, 1)
        for window in (evidence["short"], evidence["long"]):
            assert window["num_rows"] >= window["num_bad"] > 0
            assert window["burn"] >= evidence["threshold"] == 14.4
        long = evidence["long"]
        assert long["num_rows"] >= 50
        assert evidence["versions"] == [{"version": "v1.0.0", "num_rows": long["num_rows"], "num_bad": long["num_bad"]}]
        assert [cause.topic for cause in raised.causes] == ["control.telemetry"]
        incident = f"incident/{raised.alert_id}"
        assert [each["kind"] for each in await history(whole_stack, incident, 1)] == ["IncidentRaised"]

        await asyncio.to_thread(whole_stack.wait_restarted, "control", whole_stack.kill("control"))
        assert await ask(client, model, 1.0) == {"OK"}
        await asyncio.to_thread(isos, "serving", "set", model, "--slo-ms", "60000")
        found = await resolved(whole_stack, model)
        (last,) = [each for each in found if each.alert_id == raised.alert_id and each.resolved]
        assert last.message == f"{model} has another SLO: 99 % within 60000 ms."
        kinds = [each["kind"] for each in await history(whole_stack, incident, 2)]
        assert kinds == ["IncidentRaised", "IncidentResolved"]
        assert await ask(client, model, 1.0, 100) == {"OK"}
    ids = [each.alert_id for each in await alerts(whole_stack, model)]
    assert all(ids.count(each) == 2 for each in ids)  # each raised once and resolved once, and none since


async def test_rows_in_error_spend_the_budget_of_errors(whole_stack: RunningStack) -> None:
    model = await registered(whole_stack, models.nan())
    flags = ("--slo-error-share", "0.01", "--no-breaker")
    shown = await asyncio.to_thread(whole_stack.isos_json, "serving", "set", model, *flags)
    assert shown["slo"] == {"latency_ms": None, "share": None, "error_share": 0.01}
    async with Client(whole_stack.settings.bootstrap) as client:
        raised = await asked_until_alerted(whole_stack, client, model, -1.0, "errors", "ERROR")
    assert f"rows of {model} ended as ERROR or EXPIRED within 120 s" in raised.message
    shown = await asyncio.to_thread(whole_stack.isos_json, "serving", "set", model, "--no-slo")
    assert shown["slo"] is None
    await resolved(whole_stack, model)


async def history(stack: RunningStack, key: str, count: int) -> list[dict[str, str]]:
    """The changes of a key of memory, once there are so many."""
    end = time.monotonic() + PATIENCE_S
    while True:
        done = await asyncio.to_thread(stack.isos, "memory", "history", key, "--output", "json", check=False)
        if done.returncode == 0:
            found: list[dict[str, str]] = json.loads(done.stdout)
            if len(found) >= count:
                return found
        assert time.monotonic() < end, f"{key} has no {count} changes"

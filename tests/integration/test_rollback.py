"""Roll-back through a whole stack: a bad version gives way in seconds, nothing is lost, people hear of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from infra.canary_control import CanaryControl, split_of
from infra.log_reader import LogReader
from infra.rollback_control import RollbackControl
from infra.serving_control import ServingControl
from schemas.canary import Canary
from schemas.serving import Slo
from streams.client.client import Client
from streams.client.request import Request
from streams.connection import Connection
from streams.memory_view import (
    MemoryView,
    active_version,
    canary,
    known_good,
    last_rollback,
    plan,
    serving_policy,
)
from tests.support import models
from tests.support.rollback import PATIENCE_S, Traffic, proving_settings, registered, rolled_back
from tests.support.stack import RunningStack, wait_until

pytestmark = pytest.mark.timeout(240)

KEYS = 200
TOO_MUCH = 1e13
"""As many floats of memory as nobody has: a row of it fails ``models.hungry``."""
BOUND_S = 10


@dataclass
class Chat:
    """A web server on loopback that takes what is posted to it."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def texts(self, about: str) -> list[str]:
        """What was posted about a model, and not yet looked at."""
        return [body["text"] for body in list(self.bodies) if about in body["text"]]


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    found = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}/hooks/hidden"
        yield found
        server.shutdown()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, chat: Chat) -> Iterator[RunningStack]:
    """A stack on which versions prove themselves within seconds, and that tells the chat of alerts."""
    settings = proving_settings(tmp_path_factory.mktemp("proving"), alert_webhook_url=chat.url, memory_bound_s=BOUND_S)
    with RunningStack(settings) as running:
        running.wait_ready()
        yield running


async def test_a_bad_version_gives_way_in_seconds_and_nothing_is_lost(stack: RunningStack, chat: Chat) -> None:
    async with Client(stack.settings.bootstrap) as client:
        figures, answers = await rolled_back(stack, client)
    print(figures)
    assert figures.effective_ms < 5_000
    assert {answer.result.model_version for answer in answers} == {"v1.0.0", "v2.0.0"}
    failed = [answer.result for answer in answers if answer.result.status != "OK"]
    assert {(each.status, each.model_version) for each in failed} == {("ERROR", "v2.0.0")}
    ledger = await asyncio.to_thread(stack.isos_json, "ledger", "--drained")
    assert (ledger["missing"], ledger["duplicated"]) == (0, 0)

    listed = await asyncio.to_thread(stack.isos_json, "incidents", "list", "--all", "--about", figures.model)
    (incident,) = [each for each in listed if each["kind"] == "rollback"]
    assert incident["state"] == "resolved"
    shown = await asyncio.to_thread(stack.isos_json, "incidents", "show", incident["incident_id"])
    assert shown["evidence"]["from_version"] == "v2.0.0"
    decided = [each["kind"] for each in shown["decisions"]]
    assert decided[:2] == ["VersionRolledBack", "RollbackStarted"]
    assert "RollbackVerified" in decided
    assert [each["reason"] for each in shown["escalations"]] == [incident["message"]]
    assert [cause.partition("-")[0] for cause in shown["causes"]] == ["control.telemetry", "control.alerts"]

    listed = await asyncio.to_thread(stack.isos_json, "escalations", "list", "--about", figures.model)
    assert [each["escalation_id"] for each in listed] == [incident["incident_id"]]
    wait_until(lambda: len(chat.texts(figures.model)) >= 2, 30, "the webhook's alert and escalation")
    texts = chat.texts(figures.model)
    assert any(text.startswith(f"[escalation] {figures.model}: ") for text in texts)
    assert any(text.startswith("[critical] ") for text in texts)
    assert "hidden" not in stack.log("control")


async def test_where_it_is_left_to_people_the_version_stays_and_they_are_told(stack: RunningStack) -> None:
    connection = Connection(stack.settings.bootstrap)
    model = await registered(stack, models.identity(), models.nan(), slo=Slo(0, 0, 1_000))
    done = await asyncio.to_thread(stack.isos_json, "serving", "set", model, "--no-auto-rollback")
    assert done["auto_rollback"] is False
    async with Client(stack.settings.bootstrap) as client, ServingControl(connection, PATIENCE_S) as control:
        traffic = Traffic(client, model)
        sending = asyncio.create_task(traffic.run())
        await control.wait_for(lambda view: known_good(view, model) is not None, f"{model} v1.0.0 known as good")
        await control.activate(model, "v2.0.0")
        told = await escalated(connection, model)
        assert active_version(control.view, model) == "v2.0.0"
        await control.set_policy(model, lambda policy: replace(policy, auto_rollback=True))
        await control.activate(model, "v1.0.0")
        good = known_good(control.view, model)
        assert good is not None
        assert [each.version for each in good.versions] == ["v1.0.0"]  # the bad one never proved itself
        await traffic.end()
        await sending
    assert told.startswith(f"{model} v2.0.0 is not rolled back by itself: its serving policy leaves that to people.")


async def test_a_policy_that_breaks_the_promise_is_put_back_and_the_version_stays(stack: RunningStack) -> None:
    """One row in ten fails on its version and is answered by the fallback, until somebody takes that away."""
    connection = Connection(stack.settings.bootstrap)
    model = await registered(stack, models.hungry(), models.identity(), slo=Slo(0, 0, 1_000))

    def has_fallback(view: MemoryView) -> bool:
        policy, effective = serving_policy(view, model), plan(view, model)
        return policy is not None and effective is not None and policy.fallbacks == effective.fallbacks != ()

    async with Client(stack.settings.bootstrap) as client, RollbackControl(connection, PATIENCE_S) as control:
        good = await control.set_policy(
            model, lambda policy: replace(policy, fallbacks=("v2.0.0",), max_attempts=2, breaker=False)
        )
        await control.wait_for(has_fallback, f"the fallback of {model} in its plan")
        traffic = Traffic(client, model, TOO_MUCH, 1)
        sending = asyncio.create_task(traffic.run())
        await control.wait_for(lambda view: known_good(view, model) is not None, f"{model} v1.0.0 known as good")
        worse = await control.set_policy(model, lambda policy: replace(policy, fallbacks=(), slo=Slo(0, 0, 900)))
        await control.wait_for(has_fallback, f"the fallback of {model} is back")
        rollback = last_rollback(control.view, model)
        assert rollback is not None
        assert (rollback.from_version, rollback.to_version, rollback.restored) == ("v1.0.0", "v1.0.0", ("fallbacks",))
        assert serving_policy(control.view, model) == replace(good, slo=worse.slo)
        assert active_version(control.view, model) == "v1.0.0"
        told = await escalated(connection, model)
        await control.set_policy(model, lambda policy: replace(policy, fallbacks=()))
        assert await control.go_back(model) == ("fallbacks",)  # a person needs no breach
        assert serving_policy(control.view, model) == replace(good, slo=worse.slo)
        answers = await traffic.end()
        await sending
    assert told.startswith(f"{model} v1.0.0 is served as when it proved itself (fallbacks). ")
    assert {answer.result.model_version for answer in answers} == {"v1.0.0", "v2.0.0"}
    ledger = await asyncio.to_thread(stack.isos_json, "ledger", "--drained")
    assert (ledger["missing"], ledger["duplicated"]) == (0, 0)


async def escalated(connection: Connection, model: str) -> str:
    """The reason of the first escalation about a model, once there is one."""
    reader = await LogReader.connect(connection)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for each in await reader.read("control.escalations"):
                if each.record.subject == model:
                    reason: str = each.record.reason
                    return reason
            await asyncio.sleep(0.1)


async def versions_by_key(client: Client, model: str) -> dict[str, str]:
    """The version that answered the rows of each of ``KEYS`` keys, two rows of each: it is one."""
    keys = [f"customer-{number % KEYS}" for number in range(2 * KEYS)]
    rows = [Request(model, {"x": np.ones((1, 4), np.float32)}, routing_key=key) for key in keys]
    found: dict[str, set[str]] = {}
    for key, answer in zip(keys, await asyncio.gather(*(client.submit(row) for row in rows)), strict=True):
        assert answer.result.status == "OK"
        found.setdefault(key, set()).add(answer.result.model_version)
    assert {len(versions) for versions in found.values()} == {1}
    return {key: versions.pop() for key, versions in found.items()}


def tried(served: dict[str, str]) -> set[str]:
    """The keys that the canary served."""
    return {key for key, version in served.items() if version == "v2.0.0"}


async def test_a_canary_has_its_share_of_the_keys_and_a_larger_one_keeps_them(stack: RunningStack) -> None:
    model = await registered(stack, models.identity(), models.identity())
    wanted = ("models", "activate", model, "v2.0.0", "--weight", "50")
    by_weight = {}
    connection = Connection(stack.settings.bootstrap)
    async with Client(stack.settings.bootstrap) as client, CanaryControl(connection, PATIENCE_S) as control:
        assert tried(await versions_by_key(client, model)) == set()
        done = await asyncio.to_thread(stack.isos_json, *wanted)
        assert (done["serves_percent"], done["active_version"]) == ({"v1.0.0": 50, "v2.0.0": 50}, "v1.0.0")
        by_weight[50] = tried(await versions_by_key(client, model))
        for percent in (80, 0):
            await control.set_share(Canary(model, "v2.0.0", percent))
            by_weight[percent] = tried(await versions_by_key(client, model))
    for percent, keys in by_weight.items():
        deviation = (KEYS * percent / 100 * (1 - percent / 100)) ** 0.5
        assert abs(len(keys) - KEYS * percent / 100) <= 4 * deviation
    assert by_weight[50] < by_weight[80]
    shown = await asyncio.to_thread(stack.isos_json, "models", "canary", model)
    assert (shown["canary"], shown["serves_percent"]) == (None, {"v1.0.0": 100})


async def test_a_bad_canary_is_taken_back_and_the_active_version_serves_on(stack: RunningStack) -> None:
    connection = Connection(stack.settings.bootstrap)
    model = await registered(stack, models.identity(), models.nan(), slo=Slo(0, 0, 1_000))
    async with Client(stack.settings.bootstrap) as client, CanaryControl(connection, PATIENCE_S) as control:
        traffic = Traffic(client, model)
        sending = asyncio.create_task(traffic.run())
        await control.set_share(Canary(model, "v2.0.0", 30))
        await control.wait_for(lambda view: canary(view, model) is None, f"the canary of {model} taken back")
        await control.wait_for(lambda view: len(split_of(view, model).shares) == 1, f"the plan of {model} without it")
        sequence = control.view.entries[f"plan/{model}"].sequence
        answers = await traffic.end()
        await sending
        late = await asyncio.gather(*(client.submit(row(model)) for _ in range(50)))
        assert active_version(control.view, model) == "v1.0.0"
    results = [answer.result for answer in (*answers, *late)]
    assert {each.model_version for each in results} == {"v1.0.0", "v2.0.0"}
    assert {each.model_version for each in results if each.status != "OK"} == {"v2.0.0"}
    assert {each.model_version for each in results if each.provenance.memory_sequence >= sequence} == {"v1.0.0"}
    listed = await asyncio.to_thread(stack.isos_json, "incidents", "list", "--all", "--about", model)
    (incident,) = [each for each in listed if each["kind"] == "canary"]
    assert incident["state"] == "resolved"


def row(model: str) -> Request:
    """One that every version can answer."""
    return Request(model, {"x": np.ones((1, 4), np.float32)})


async def test_routers_serve_on_without_memory_up_to_the_bound_and_again_when_it_is_heard(stack: RunningStack) -> None:
    """The Orchestrator stands still: nobody writes memory, and nobody says that it lives."""
    model = await registered(stack, models.identity())
    async with Client(stack.settings.bootstrap) as client:
        assert (await client.submit(row(model))).result.status == "OK"
        pid, frozen_s, served_s = stack.freeze("orchestrator"), time.monotonic(), 0.0
        try:
            while (result := (await client.submit(row(model))).result).error is None:
                served_s = time.monotonic() - frozen_s
                assert served_s < 3 * BOUND_S, "Routers serve on"
            assert (result.status, result.error.code) == ("REJECTED", "memory_silent")
            assert result.error.retry_after_ms == 5_000
            assert served_s > BOUND_S - 3
            assert await silence_told(stack, resolved=False) == ["warning", "critical"]
        finally:
            stack.thaw(pid)
        async with asyncio.timeout(PATIENCE_S):
            while (await client.submit(row(model))).result.status != "OK":
                await asyncio.sleep(0.1)
    assert await silence_told(stack, resolved=True) == ["warning", "critical"]


async def silence_told(stack: RunningStack, *, resolved: bool) -> list[str]:
    """How severe the alerts of silent memory are that stand on their topic, once the critical one does."""
    reader = await LogReader.connect(Connection(stack.settings.bootstrap))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            records = [each.record for each in await reader.read("control.alerts")]
            found = [each for each in records if each.kind == "memory_silent" and each.resolved == resolved]
            severities = list(dict.fromkeys(each.severity for each in found))
            if "critical" in severities:
                return severities
            await asyncio.sleep(0.1)


def test_commands_refuse_in_sentences(stack: RunningStack) -> None:
    for arguments, said in (
        (("incidents", "show", "nothing"), "There is no incident nothing"),
        (("incidents", "close", "nothing", "--reason", "none"), "No incident nothing is open"),
        (("escalations", "show", "nothing"), "There is no escalation nothing"),
        (("models", "canary", "nothing"), "No model nothing is registered"),
    ):
        done = stack.isos(*arguments, check=False)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (3, True, False)

"""Alerts to people: what is posted, once each, tried again while it may help, and never the address in the log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.alerting import DOWN_S, TRIES, Announcer, Webhook, document
from schemas.coordinate import RecordCoordinate
from schemas.review import Escalation, ReviewRequest
from schemas.telemetry import Alert
from tests.support.audit import Recorder

SECOND = 1_000_000
CAUSES = (RecordCoordinate("control.telemetry", 0, 7),)
ALERT = Alert(
    *(
        "slo_burn/digits/errors/fast/5",
        "slo_burn",
        "digits",
        "critical",
        "30 of 100 rows ended badly.",
        '{"speed":"fast"}',
    ),
    *(False, 5 * SECOND, CAUSES, "digits", "v2.0.0"),
)
REVIEW = ReviewRequest("r9", "ann", "ActivateVersion active/digits", "ab" * 32, '{"slo":null}', 60 * SECOND, 9 * SECOND)
ESCALATION = Escalation("rollback/digits/9", "orchestrator", "digits", "digits is rolled back.", 9 * SECOND, CAUSES)


class Receiver:
    """A web server on loopback that answers with the given statuses, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(json.loads(await request.text()))
        return web.Response(status=self.statuses[min(len(self.bodies), len(self.statuses)) - 1])

    def run(self, work: Callable[[str], Awaitable[None]]) -> None:
        async def serve() -> None:
            app = web.Application()
            app.router.add_post("/hooks/secret", self.take)
            async with TestServer(app) as server:
                await work(str(server.make_url("/hooks/secret")))

        asyncio.run(serve())


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []
        self.audit = Recorder()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def webhook(self, url: str) -> Webhook:
        return Webhook(url, sleep=self.sleep, clock_s=lambda: self.now_s, audited=self.audit.operation)


def test_what_is_posted_of_an_alert_and_of_an_escalation() -> None:
    assert document(ALERT) == {
        "type": "alert",
        "id": "slo_burn/digits/errors/fast/5",
        "text": "[critical] digits: 30 of 100 rows ended badly.",
        "kind": "slo_burn",
        "subject": "digits",
        "severity": "critical",
        "message": "30 of 100 rows ended badly.",
        "resolved": False,
        "model": "digits",
        "version": "v2.0.0",
        "evidence": {"speed": "fast"},
        "time": "1970-01-01T00:00:05Z",
        "causes": ["control.telemetry/0/7"],
    }
    assert document(replace(ALERT, resolved=True))["text"].startswith("[resolved] ")
    assert document(replace(ALERT, evidence="not JSON", model=""))["evidence"] == "not JSON"
    told = document(ESCALATION)
    assert (told["type"], told["text"], told["agent"]) == (
        *("escalation", "[escalation] digits: digits is rolled back."),
        "orchestrator",
    )


def test_it_is_tried_again_with_growing_pauses_until_it_is_taken() -> None:
    receiver, clock = Receiver(500, 429, 200), Clock()

    async def work(url: str) -> None:
        webhook = clock.webhook(url)
        assert await webhook.post(document(ALERT))
        assert (webhook.num_posted, webhook.num_given_up) == (1, 0)

    receiver.run(work)
    (record,) = clock.audit.records
    assert (record.operation, record.outcome, record.resources) == ("alerts.post", "done", ("127.0.0.1",))
    assert record.resources_affected == (f"alert/{ALERT.alert_id}",)
    assert receiver.bodies == [document(ALERT)] * 3
    assert clock.slept == [0.5, 1.0]


def test_a_refusal_is_not_repeated_and_a_redirect_not_followed() -> None:
    for status in (404, 302):
        receiver, clock = Receiver(status), Clock()

        async def work(url: str, clock: Clock = clock) -> None:
            assert not await clock.webhook(url).post(document(ALERT))

        receiver.run(work)
        assert (len(receiver.bodies), clock.slept) == (1, [])


def test_while_it_is_down_each_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    receiver, clock = Receiver(503), Clock()

    async def work(url: str) -> None:
        webhook = clock.webhook(url)
        for _ in range(3):
            assert not await webhook.post(document(ALERT))
        assert len(receiver.bodies) == TRIES + 2
        clock.now_s += DOWN_S
        assert not await webhook.post(document(ALERT))
        assert len(receiver.bodies) == 2 * TRIES + 2

    with caplog.at_level(logging.INFO):
        receiver.run(work)
        asyncio.run(_unreachable(clock))
    ours = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]  # that is the test's
    assert len(ours) == 5
    assert ours[0] == "the alert webhook did not take slo_burn/digits/errors/fast/5: it answers 503"
    assert not any("secret" in line for line in ours)


async def _unreachable(clock: Clock) -> None:
    assert not await clock.webhook("http://127.0.0.1:1/secret").post(document(ALERT))


def test_each_is_told_once_and_old_ones_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    receiver, clock = Receiver(200), Clock()

    async def work(url: str) -> None:
        announcer = Announcer(clock.webhook(url), lambda: 20 * SECOND)
        for record in (ALERT, ALERT, replace(ALERT, resolved=True), ESCALATION, ESCALATION):
            await announcer.announce(record)
        await announcer.announce(replace(ALERT, alert_id="old", time_us=-600 * SECOND))

    with caplog.at_level(logging.INFO):
        receiver.run(work)
    assert [body["text"].partition("]")[0] for body in receiver.bodies] == ["[critical", "[resolved", "[escalation"]
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "isos.alerts"]
    assert [level for level, _ in lines] == ["ERROR", "WARNING", "WARNING", "ERROR"]
    assert lines[2][1] == "[escalation] digits: digits is rolled back."


def test_people_are_told_what_waits_for_them(caplog: pytest.LogCaptureFixture) -> None:
    receiver, clock = Receiver(200), Clock()

    async def work(url: str) -> None:
        announcer = Announcer(clock.webhook(url), lambda: 20 * SECOND)
        for record in (REVIEW, REVIEW, replace(REVIEW, review_id="r10", policy="development")):
            await announcer.announce(record)
        await announcer.announce(replace(REVIEW, review_id="old", requested_us=-600 * SECOND))

    with caplog.at_level(logging.INFO):
        receiver.run(work)
    (body,) = receiver.bodies
    said = (
        "[review] ActivateVersion active/digits: ann asks for it; `isos reviews show r9`, until 1970-01-01T00:01:00Z."
    )
    assert (body["type"], body["text"], body["evidence"]) == ("review", said, {"slo": None})
    assert [record.levelname for record in caplog.records if record.name == "isos.alerts"] == ["WARNING", "WARNING"]


def test_without_a_webhook_there_is_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        asyncio.run(Announcer(None).announce(replace(ALERT, severity="info")))
    assert [record.levelname for record in caplog.records] == ["INFO"]

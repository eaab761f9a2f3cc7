"""Alerts for people: a line in the control process's log and, where ``alert_webhook_url`` is set, a POST of JSON.

Follows ``control.alerts``, ``control.escalations`` and ``control.review-requests`` (of people) in a consumer group of
its own, so the log is the queue: whatever happens to the webhook, no agent waits, and after a restart it goes on where
it was. A POST has ``TIMEOUT_S`` and is tried ``TRIES`` times with growing pauses, once while the webhook is known to be
down; what is older than ``STALE_S`` is only logged. The address may hold a secret: it is never logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from infra.settings import Settings
from schemas.review import Escalation, ReviewRequest
from schemas.telemetry import Alert
from streams.audit_operation import FAILED, Audited, Facts, unaudited
from streams.codec import Codec
from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.errors import PoisonRecordError, RetriableError
from streams.registry.schema_log import read_schema_ids
from streams.topics import PREFIX, SUFFIX, full_name

log = logging.getLogger("isos.alerts")

TOPICS: Final = ("control.alerts", "control.escalations", "control.review-requests")
GROUP: Final = "isos-alerting"
TIMEOUT_S: Final = 5.0
TRIES: Final = 4
FIRST_PAUSE_S: Final = 0.5
DOWN_S: Final = 60.0
STALE_S: Final = 600.0
AT_ONCE: Final = 4
"""Records between two polls: each may take half a minute, and the group waits five."""
REMEMBERED: Final = 500
POLL_MS: Final = 1_000
CALL_S: Final = 10.0
RETRY_S: Final = 5.0
LEVELS: Final = {"critical": logging.ERROR, "warning": logging.WARNING}

Sleep = Callable[[float], Awaitable[None]]


def document(record: Alert | Escalation | ReviewRequest) -> dict[str, Any]:
    """What is posted: flat JSON, with ``text`` in one line as chat programs show it."""
    if isinstance(record, ReviewRequest):
        return _request(record)
    time_of = datetime.fromtimestamp(record.time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    causes = [f"{each.topic}/{each.partition}/{each.offset}" for each in record.causes]
    if isinstance(record, Escalation):
        return {
            "type": "escalation",
            "id": record.escalation_id,
            "text": f"[escalation] {record.subject}: {record.reason}",
            "subject": record.subject,
            "message": record.reason,
            "agent": record.agent,
            "time": time_of,
            "causes": causes,
        }
    state = "resolved" if record.resolved else record.severity
    return {
        "type": "alert",
        "id": record.alert_id,
        "text": f"[{state}] {record.subject}: {record.message}",
        "kind": record.kind,
        "subject": record.subject,
        "severity": record.severity,
        "message": record.message,
        "resolved": record.resolved,
        "model": record.model or None,
        "version": record.version or None,
        "evidence": _parsed(record.evidence),
        "time": time_of,
        "causes": causes,
    }


def _request(request: ReviewRequest) -> dict[str, Any]:
    deadline = datetime.fromtimestamp(request.deadline_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = f"{request.author} asks for it; `isos reviews show {request.review_id}`, until {deadline}."
    return {
        "type": "review",
        "id": request.review_id,
        "text": f"[review] {request.subject}: {message}",
        "subject": request.subject,
        "message": message,
        "author": request.author,
        "evidence": _parsed(request.evidence),
        "time": datetime.fromtimestamp(request.requested_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "deadline": deadline,
    }


def _parsed(evidence: str) -> Any:
    try:
        return json.loads(evidence)
    except ValueError:
        return evidence


class Webhook:
    """Posts documents to one address; ``clock_s`` in seconds, monotonic."""

    def __init__(
        self,
        url: str,
        *,
        sleep: Sleep = asyncio.sleep,
        clock_s: Callable[[], float] = time.monotonic,
        audited: Audited = unaudited,
    ) -> None:
        self._audited = audited
        self._url = url
        self._sleep = sleep
        self._clock_s = clock_s
        self._down_until_s = 0.0
        self.num_posted = 0
        self.num_given_up = 0

    async def post(self, body: dict[str, Any]) -> bool:
        """Post once it is taken, or give up; says which. Never raises for what the other side does."""
        host = urlsplit(self._url).hostname or "unknown"
        with self._audited("alerts.post", Facts(resources=(host,))) as operation:
            operation.affected(f"{body['type']}/{body['id']}")
            problem = await self._posted(body)
            if problem:
                operation.ends(FAILED, f"{host}: {problem}")
        return not problem

    async def _posted(self, body: dict[str, Any]) -> str:
        """Why nobody took it; empty where somebody did."""
        tries = 1 if self._clock_s() < self._down_until_s else TRIES
        pause_s, problem = FIRST_PAUSE_S, ""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            for number in range(tries):
                if number:
                    await self._sleep(pause_s)
                    pause_s *= 2
                try:
                    async with session.post(self._url, json=body, allow_redirects=False) as reply:
                        if reply.status < 300:
                            self._down_until_s = 0.0
                            self.num_posted += 1
                            return ""
                        problem = f"it answers {reply.status}"
                        if reply.status < 500 and reply.status != 429:
                            break  # it will not like it better the next time
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    problem = type(error).__name__
        self._down_until_s = self._clock_s() + DOWN_S
        self.num_given_up += 1
        log.warning("the alert webhook did not take %s: %s", body["id"], problem)
        return problem


class Announcer:
    """Tells people of each record once, in the log and by the webhook."""

    def __init__(self, webhook: Webhook | None, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._webhook = webhook
        self._clock_us = clock_us
        self._told: deque[tuple[str, bool]] = deque(maxlen=REMEMBERED)

    async def announce(self, record: Alert | Escalation | ReviewRequest) -> None:
        """Log it and post it; a record that agents sent again is passed over, and what no person is asked for."""
        if isinstance(record, ReviewRequest) and record.policy != "people":
            return
        told = document(record)
        mark = (f"{told['type']}/{told['id']}", bool(told.get("resolved")))
        if mark in self._told:
            return
        self._told.append(mark)
        is_over = told.get("resolved") or told["type"] != "alert"
        log.log(logging.WARNING if is_over else LEVELS.get(told["severity"], logging.INFO), "%s", told["text"])
        time_us = record.requested_us if isinstance(record, ReviewRequest) else record.time_us
        if self._webhook is not None and self._clock_us() - time_us < STALE_S * 1e6:
            await self._webhook.post(told)


async def announce_alerts(settings: Settings, connection: Connection, audited: Audited = unaudited) -> None:
    """Run until cancelled; begin anew where the broker was away."""
    webhook = Webhook(settings.alert_webhook_url, audited=audited) if settings.alert_webhook_url else None
    announcer = Announcer(webhook)
    while True:
        try:
            await _follow(settings, connection, announcer)
        except (KafkaError, RetriableError) as error:
            log.warning("alerts are not told for now: %s", error)
        await asyncio.sleep(RETRY_S)


async def _follow(settings: Settings, connection: Connection, announcer: Announcer) -> None:
    codec = Codec(await read_schema_ids(connection))
    names = [full_name(name) for name in TOPICS]
    session_ms = settings.session_timeout_s * 1_000
    client = consumer(
        connection,
        *names,
        group_id=GROUP,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=min(2_000, session_ms // 3),
        fetch_max_wait_ms=500,
    )
    await start(client, "starting to tell people of alerts")
    try:
        while True:
            await _tell_next(client, codec, connection, announcer)
    finally:
        await stop_quietly(client)


async def _tell_next(client: AIOKafkaConsumer, codec: Codec, connection: Connection, announcer: Announcer) -> None:
    """The next few records; their offsets are committed once they were told or given up."""
    got = await bounded(client.getmany(timeout_ms=POLL_MS, max_records=AT_ONCE), CALL_S, "reading alerts")
    for place, batch in got.items():
        short = place.topic.removeprefix(PREFIX).removesuffix(SUFFIX)
        for raw in batch:
            if not codec.knows(short, raw.value or b""):
                codec.refresh(await read_schema_ids(connection))
            try:
                await announcer.announce(codec.decode(short, raw.value))
            except PoisonRecordError as error:
                log.warning("a record of %s cannot be read: %s", short, error)
    if got:
        await bounded(client.commit(), CALL_S, "noting which alerts were told")

"""What the doctor asks of the servers: broker, topics, schemas, registry, Redis, the broker's clock."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any, Final

from infra.doctor_check import Check
from infra.settings import Settings, StartError
from infra.settings_source import without_password
from infra.stack_check import check_reachable
from infra.stack_state import is_running

if TYPE_CHECKING:
    from streams.topic_check import TopicCheck

HTTP_TIMEOUT_S: Final = 5.0
REDIS_TIMEOUT_S: Final = 5.0
MIN_REDIS: Final = (6, 0)
SKEW_MS: Final = 1_000
"""Deadlines are counted from the broker's time; beyond a second they come visibly early or late."""
LARGE_SKEW_MS: Final = 10_000
LOOPBACK: Final = ("127.0.0.1:", "localhost:", "[::1]:")


def answers(given: Settings) -> bool:
    """Whether something listens at the broker's address."""
    try:
        check_reachable("Kafka broker", "brokers", given.bootstrap.split(","))
    except StartError:
        return False
    return True


def broker(given: Settings) -> list[Check]:
    """The broker; a stack that does not run is no failure, an outside broker that does not answer is."""
    if answers(given):
        from streams.connection import Connection
        from streams.errors import RetriableError
        from streams.provision import topic_partitions

        try:
            asyncio.run(topic_partitions(Connection(given.bootstrap), ["inference.requests"]))
        except RetriableError as error:
            sentence = f"Something listens at {given.bootstrap} and does not answer as a Kafka broker: {error}."
            return [Check("broker", "fail", sentence, "`isos status`; or correct the setting brokers.")]
        return [Check("broker", "ok", f"A broker answers at {given.bootstrap}.")]
    sentence = f"No broker answers at {given.bootstrap}."
    if given.brokers:
        return [Check("broker", "fail", sentence, "Start that broker, or correct the setting brokers (ISOS_BROKERS).")]
    if is_running(given):
        return [Check("broker", "fail", sentence, f"`isos status`; {given.log_dir / 'broker.log'} says why.")]
    return [Check("broker", "warn", f"{sentence} Nothing is running.", "`isos up` starts everything.")]


def topics(given: Settings) -> list[Check]:
    """Every topic and every setting of it against the table, and those that must have the same partitions."""
    if not answers(given):
        return [_unasked("topics")]
    from streams.connection import Connection
    from streams.topic_check import check_topics

    work = check_topics(Connection(given.bootstrap), partitions=given.partitions, lanes=given.num_lanes)
    return judged_topics(asyncio.run(work))


def judged_topics(found: TopicCheck) -> list[Check]:
    """The checks of what was found on the broker."""
    from streams.topic_check import PARTITIONS

    checks = []
    if not found.partitions:
        return [
            Check("topics", "warn", "The broker has none of our topics.", "`isos topics provision` (`isos up` does)")
        ]
    if found.missing:
        named = ", ".join(found.missing)
        checks.append(Check("topics", "fail", f"Topics are missing: {named}.", "`isos topics provision`"))
    if found.apart:
        counts = ", ".join(f"{name} {count}" for name, count in found.apart.items())
        what = f"Topics that need the same number of partitions have others: {counts}."
        checks.append(
            Check("partitions", "fail", what, "`isos --set partitions=N topics provision` with the largest N")
        )
    for fault in found.faults:
        if fault.setting != PARTITIONS:
            checks.append(Check("topics", "fail", f"{fault}.", "`isos topics provision --repair`"))
        elif not found.apart:
            remedy = f"`isos --set partitions={fault.found} ...`, or the same in isos.toml: what exists is not altered"
            checks.append(Check("partitions", "fail", f"{fault}.", remedy))
    return checks or [
        Check("topics", "ok", f"All {len(found.partitions)} topics are there, with the settings they need.")
    ]


def schemas(given: Settings) -> list[Check]:
    """Our schemas are registered and are the very ones of this program."""
    if not answers(given):
        return [_unasked("schemas")]
    from streams.connection import Connection
    from streams.provision import topic_partitions
    from streams.registry.schema_log import missing, read_schema_log
    from streams.topics import SCHEMAS_TOPIC

    async def ask() -> Any:
        connection = Connection(given.bootstrap)
        if not await topic_partitions(connection, [SCHEMAS_TOPIC]):
            return None
        return await read_schema_log(connection)

    log = asyncio.run(ask())
    if log is None:
        return [Check("schemas", "warn", "The broker has no topic of schemas.", "`isos topics provision`")]
    lacking = missing(log)
    if lacking:
        named = ", ".join(sorted({each.subject for each in lacking}))
        what = f"Schemas of this version are not registered: {named}."
        return [Check("schemas", "fail", what, "`isos topics provision` registers them.")]
    return [Check("schemas", "ok", f"All schemas of this version are registered, ids up to {log.next_id - 1}.")]


def registry(given: Settings) -> list[Check]:
    """The registry's HTTP interface; serving does not need it, clients of other languages do."""
    address = given.registry_address
    try:
        with urllib.request.urlopen(f"{address}/subjects", timeout=HTTP_TIMEOUT_S) as reply:  # noqa: S310 - settings allow http only
            subjects = json.load(reply)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        sentence = f"No schema registry answers at {without_password(address)}: {reason}."
        if given.registry_url or is_running(given):
            remedy = "`isos status`; or correct the setting registry_url. Serving goes on without it."
            return [Check("registry", "fail", sentence, remedy)]
        return [Check("registry", "warn", sentence, "`isos up` starts one.")]
    return [
        Check("registry", "ok", f"A schema registry answers at {without_password(address)}: {len(subjects)} subjects.")
    ]


def redis_server(given: Settings) -> list[Check]:
    """Redis: reachable, new enough, and what it does when its memory is full."""
    from infra.redis_server import find_redis

    try:
        facts = asyncio.run(_redis_facts(given.redis_address))
    except (OSError, TimeoutError, _redis_error()) as error:
        sentence = f"No Redis answers at {without_password(given.redis_address)}: {_said(error)}."
        if given.redis_url:
            remedy = "Start it, or correct the setting redis_url (ISOS_REDIS_URL); limits go on per process without it."
            return [Check("redis", "fail", sentence, remedy)]
        if is_running(given):
            remedy = f"`isos status`; {given.log_dir / 'redis.log'} says why. Limits go on per process without it."
            return [Check("redis", "fail", sentence, remedy)]
        try:
            find_redis(given.tools_dir)
        except StartError as missing:
            return [Check("redis", "fail", str(missing), "`make setup`, or set redis_url to a Redis that runs.")]
        return [Check("redis", "warn", f"{sentence} Nothing is running.", "`isos up` starts one.")]
    return judged_redis(facts, without_password(given.redis_address))


def _said(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def judged_redis(facts: dict[str, Any], address: str) -> list[Check]:
    """The check of Redis' own figures: ``redis_version``, ``maxmemory``, ``maxmemory_policy``."""
    version, policy = str(facts["redis_version"]), str(facts.get("maxmemory_policy", "noeviction"))
    if tuple(map(int, version.split(".")[:2])) < MIN_REDIS:
        return [Check("redis", "fail", f"Redis at {address} is {version}; 6.0 is needed.", "Install a newer one.")]
    if int(facts.get("maxmemory", 0)) and policy.startswith("allkeys"):
        what = f"Redis at {address} drops any key when it is full ({policy}): limits and request ids may be forgotten."
        return [Check("redis", "warn", what, "`redis-cli config set maxmemory-policy volatile-ttl`")]
    return [Check("redis", "ok", f"Redis {version} answers at {address} (when full: {policy}).")]


def _redis_error() -> type[Exception]:
    from redis.exceptions import RedisError

    return RedisError


async def _redis_facts(address: str) -> dict[str, Any]:
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(
        address, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    try:
        facts: dict[str, Any] = await client.info()
        return facts
    finally:
        await client.aclose()


def clock(given: Settings) -> list[Check]:
    """The broker's clock beside ours; on this machine it is the same one."""
    if not answers(given):
        return [_unasked("clock")]
    if all(each.strip().startswith(LOOPBACK) for each in given.bootstrap.split(",")):
        return [Check("clock", "ok", "The broker is on this machine and has its clock.")]
    return judged_clock(asyncio.run(broker_skew_ms(given.bootstrap)))


def judged_clock(skew_ms: float) -> list[Check]:
    """The check of how far the broker's clock is ahead of ours."""
    sentence = (
        f"The broker's clock is {abs(skew_ms) / 1000:.1f} s {'ahead of' if skew_ms > 0 else 'behind'} this machine's"
    )
    remedy = "Let both machines follow NTP (chronyd, systemd-timesyncd); deadlines are counted from the broker's time."
    if abs(skew_ms) >= LARGE_SKEW_MS:
        return [Check("clock", "fail", f"{sentence}.", remedy)]
    if abs(skew_ms) >= SKEW_MS:
        return [Check("clock", "warn", f"{sentence}.", remedy)]
    return [Check("clock", "ok", f"{sentence}: well within {SKEW_MS / 1000:g} s.")]


async def broker_skew_ms(bootstrap: str) -> float:
    """How far the broker's clock is ahead: the time it stamps on a record of a topic that is made for it and deleted.

    Raises RetriableError when the broker does not answer or refuses the topic.
    """
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    from streams.connection import Connection, bounded, producer, start, stop_quietly

    name = f"isos.doctor-{uuid.uuid4().hex[:12]}"
    connection = Connection(bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **connection.security())
    sender = producer(connection)
    try:
        await start(admin, "connecting to read the broker's clock")
        await start(sender, "connecting to read the broker's clock")
        settings = {"message.timestamp.type": "LogAppendTime"}
        topic = NewTopic(name, 1, 1, topic_configs=settings)
        await bounded(admin.create_topics([topic]), 10, "making the topic that reads the clock")
        before = time.time()
        sent = await bounded(sender.send_and_wait(name, b"", partition=0), 10, "reading the broker's clock")
        return float(sent.timestamp - (before + time.time()) * 500)
    finally:
        await bounded(admin.delete_topics([name]), 10, "deleting the topic that read the clock")
        await stop_quietly(sender)
        await bounded(admin.close(), 5, "closing the connection")


def _unasked(name: str) -> Check:
    return Check(name, "warn", "Not checked: no broker answers.", "See the check of the broker.")

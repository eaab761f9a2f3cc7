"""What the stack was started as, told to the Orchestrator before it starts: a first environment, or a stricter one."""

from __future__ import annotations

import os
import time
from typing import Final

from infra.settings import Settings
from schemas.environment import Environment
from schemas.memory import MemoryCommand
from streams.canonical import to_json
from streams.codec import Codec
from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.review_view import ENVIRONMENT
from streams.topics import full_name

AGENT: Final = "provision"
KIND: Final = "DeclareEnvironment"
SEND_TIMEOUT_S: Final = 10.0


def environment_of(settings: Settings) -> Environment:
    """The environment that the settings ask for; the development policy is a sandbox's only."""
    is_sandbox = settings.environment == "sandbox"
    return Environment(settings.environment, development_policy=is_sandbox, review_s=settings.review_deadline_s)


def declaration(wanted: Environment, now_us: int) -> MemoryCommand:
    """The command; each start sends one of its own, since what stood then may have been changed meanwhile."""
    reason = f"the stack was started as {wanted.name}"
    identity = f"{ENVIRONMENT}-{now_us}-{os.getpid()}"
    return MemoryCommand(identity, AGENT, KIND, ENVIRONMENT, -1, to_json(wanted), reason, (), now_us)


async def declare(connection: Connection, codec: Codec, settings: Settings) -> None:
    """Send it. Raises RetriableError when the broker is away."""
    command = declaration(environment_of(settings), time.time_ns() // 1000)
    client = producer(connection, enable_idempotence=True)
    await start(client, "connecting to declare the environment")
    try:
        value = codec.encode("memory.commands", command)
        sent = client.send_and_wait(full_name("memory.commands"), value, key=command.key.encode())
        await bounded(sent, SEND_TIMEOUT_S, "declaring the environment")
    finally:
        await stop_quietly(client)
